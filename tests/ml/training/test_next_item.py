from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ml.errors import DataError
from ml.features.histories import Histories
from ml.features.next_item import NextItemConfig
from ml.training.next_item import learn_next_items, sasrec_vectors

ITEMS, USERS = 12, 40
CONFIG = NextItemConfig(embed_dim=16, num_layers=1, length=6, dropout=0, negatives=0, batch_size=48, learning_rate=0.01)


@pytest.fixture(scope="module")
def cycles() -> Histories:
    """Every user goes through the items in the same circle, from another one; nobody has rated the last item."""
    lengths = np.random.default_rng(0).integers(4, 11, USERS)
    items = np.concatenate([(user + np.arange(length)) % (ITEMS - 1) for user, length in enumerate(lengths)])
    return Histories(np.concatenate([[0], np.cumsum(lengths)]), items.astype(np.int32))


def test_the_item_after_the_given_ones_has_the_highest_score(cycles: Histories) -> None:
    given = cycles.without_last(2)
    states, vectors = learn_next_items(cycles, given, ITEMS, CONFIG.model_copy(update={"epochs": 12}))
    assert (states.dtype, states.shape, vectors.shape) == (np.float32, (USERS, 16), (ITEMS, 16))
    following = (given.last(np.arange(USERS)) + 1) % (ITEMS - 1)
    assert ((states @ vectors.T).argmax(axis=1) == following).mean() > 0.9


@pytest.mark.slow
def test_threads_and_earlier_trainings_change_nothing(cycles: Histories) -> None:
    config = CONFIG.model_copy(update={"epochs": 1, "dropout": 0.2, "negatives": 4})
    first = learn_next_items(cycles, cycles, ITEMS, config)
    with ThreadPoolExecutor(2) as pool:
        others = list(pool.map(lambda _: learn_next_items(cycles, cycles, ITEMS, config), range(2)))
    for other in others:
        for own, again in zip(first, other, strict=True):
            np.testing.assert_array_equal(own, again)


@pytest.mark.slow
def test_a_user_without_given_items_has_the_mean_state(cycles: Histories) -> None:
    config = CONFIG.model_copy(update={"epochs": 1})
    whole, _ = learn_next_items(cycles, cycles, ITEMS, config)
    states, _ = learn_next_items(cycles, cycles.without_last(100), ITEMS, config)
    assert states == pytest.approx(np.tile(whole.mean(axis=0), (USERS, 1)), abs=1e-6)
    some, _ = learn_next_items(cycles, cycles.without_last(5), ITEMS, config)
    assert some[cycles.lengths <= 5] == pytest.approx(states[cycles.lengths <= 5], abs=1e-6)


@pytest.mark.slow
def test_item_vectors_keep_what_a_narrow_table_can(cycles: Histories) -> None:
    found = sasrec_vectors(cycles, ITEMS, width=4, seed=1)
    assert (found.dtype, found.shape) == (np.float32, (ITEMS, 4))
    assert found[: ITEMS - 1].std() == pytest.approx(1, rel=1e-4)
    assert not found[ITEMS - 1].any()
    _, vectors = learn_next_items(cycles, cycles, ITEMS, NextItemConfig(seed=1))
    values, directions = np.linalg.eigh(vectors[:-1].astype(np.float64) @ vectors[:-1].T)
    best = directions[:, -4:] * values[-4:] @ directions[:, -4:].T  # the closest matrix of rank 4 to all inner products
    cosine = (found[:-1] @ found[:-1].T * best).sum() / np.linalg.norm(found[:-1] @ found[:-1].T) / np.linalg.norm(best)
    assert cosine == pytest.approx(1, abs=1e-4)


def test_histories_too_short_to_learn_from_are_refused() -> None:
    short = Histories(np.array([0, 2]), np.array([1, 2], np.int32))
    with pytest.raises(DataError, match="no user has 3 ratings or more"):
        learn_next_items(short, short, ITEMS, CONFIG)
