from typing import Any

import keras
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from ml.models.autoint import LOGIT_LAYER
from ml.models.config import SASRecConfig
from ml.models.sequence import CausalBlock, HistoryEmbedding, NextItemModel, serving_network

ITEMS = 9
CONFIG = SASRecConfig(embed_dim=8, num_layers=2, num_heads=2, length=5, dropout=0.0)
LAYERS = {
    "embedding": HistoryEmbedding(items=3, length=4, width=8, seed=1),
    "block": CausalBlock(num_heads=2, dropout=0.1, seed=1),
}


@pytest.fixture(scope="module")
def model() -> NextItemModel:
    """With weights of such a size that every token matters."""
    model = NextItemModel(ITEMS, CONFIG, seed=1)
    rng = np.random.default_rng(0)
    model.set_weights([rng.normal(scale=0.7, size=weight.shape) for weight in model.get_weights()])
    return model


def states(model: NextItemModel, *histories: list[int]) -> np.ndarray:
    return np.asarray(model(np.array(histories, np.int32)))


@pytest.mark.parametrize("name", LAYERS)
def test_config_round_trip(name: str) -> None:
    layer = LAYERS[name]
    assert type(layer).from_config(layer.get_config()).get_config() == layer.get_config()


def test_embedding_by_hand() -> None:
    layer = HistoryEmbedding(items=2, length=3, width=4)
    layer.build((None, None))
    layer.table.assign([[1, 0, 0, 0], [0, 1, 0, 0]])
    layer.positions.assign([[9] * 4, [0.5] * 4, [0, 0, 0, 7]])
    found = np.asarray(layer(np.array([[0, 2], [1, 2]])))
    # sqrt(4) = 2 times the item, and the position from the end.
    assert found[0].tolist() == [[0, 0, 0, 0], [0, 2, 0, 7]]
    assert found[1].tolist() == [[2.5, 0.5, 0.5, 0.5], [0, 2, 0, 7]]


def test_a_state_depends_on_the_present_and_the_past_only(model: NextItemModel) -> None:
    first, other = states(model, [1, 2, 3, 4, 5], [1, 2, 3, 9, 5])
    np.testing.assert_allclose(first[:3], other[:3], atol=1e-6)  # how a product rounds depends on the processor
    assert np.abs(first[3:] - other[3:]).max(axis=1).min() > 1e-3  # the present, and the past of the last state


def test_every_earlier_token_matters(model: NextItemModel) -> None:
    last = states(model, [1, 2, 3, 4, 5])[0, -1]
    for place in range(4):
        changed = [1, 2, 3, 4, 5]
        changed[place] = 9
        assert np.abs(states(model, changed)[0, -1] - last).max() > 1e-4


def test_padding_is_never_attended_to(model: NextItemModel) -> None:
    [padded] = states(model, [0, 0, 0, 7, 8])
    [short] = states(model, [7, 8])
    assert padded[3:] == pytest.approx(short, abs=1e-6)
    assert np.isfinite(padded).all()


def loss(model: NextItemModel, tokens: Any, next_items: Any, weights: Any, training: bool) -> float:
    found = model.compute_loss(
        None, np.array(next_items), model(np.array(tokens, np.int32)), np.array(weights, np.float32), training=training
    )
    return float(found)


def test_loss_by_hand(model: NextItemModel) -> None:
    tokens, next_items, weights = [[0, 3], [4, 5]], [[0, 4], [3, 6]], [[0, 1], [0, 1]]
    scores = states(model, *tokens) @ np.asarray(model.vectors).T
    expected = -(log_softmax(scores[0, 1])[4] + log_softmax(scores[1, 1])[6]) / 2
    assert loss(model, tokens, next_items, weights, training=True) == pytest.approx(expected, abs=1e-5)


def test_only_the_last_states_count_if_only_they_have_next_items(model: NextItemModel) -> None:
    tokens, next_items, weights = [[7, 3], [4, 5]], [[0, 4], [3, 6]], [[0, 1], [0, 1]]
    whole = loss(model, tokens, next_items, weights, training=False)
    assert loss(model, tokens, [[4], [6]], [[1], [1]], training=False) == pytest.approx(whole, abs=1e-6)


def test_sampled_loss_by_hand(model: NextItemModel, monkeypatch: pytest.MonkeyPatch) -> None:
    sampling = NextItemModel(ITEMS, CONFIG.model_copy(update={"negatives": 3}), seed=1)
    sampling.set_weights(model.get_weights())
    monkeypatch.setattr(keras.random, "randint", lambda *args, **options: np.array([2, 6, 0]))
    scores = states(model, [3, 4])[0, -1] @ np.asarray(model.vectors).T
    # Item 6 is the next one, so it is no negative; the others stand for 9 / 3 items each.
    expected = logsumexp([scores[6], scores[2] + np.log(3), scores[0] + np.log(3)]) - scores[6]
    given = [[3, 4]], [[3, 6]], [[0, 1]]
    assert loss(sampling, *given, training=True) == pytest.approx(expected, abs=1e-5)
    assert loss(sampling, *given, training=False) == pytest.approx(loss(model, *given, training=True), abs=1e-6)


def test_the_seed_decides_the_first_weights() -> None:
    one, same, other = (NextItemModel(ITEMS, CONFIG, seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[0], other[0])


def test_served_probabilities_by_hand() -> None:
    network = serving_network(np.array([[1.0, 0.0], [0.0, 2.0]], np.float32), np.eye(3, 2, dtype=np.float32), (0, 1), 4)
    indices = np.array([[0, 0, 5, 6], [0, 2, 5, 6], [1, 1, 0, 0]], np.int32)
    shares = np.exp([1, 0, 2]) / [np.e + 2, np.e + 2, np.exp(2) + 2]  # of the softmax over three items
    found = np.asarray(network(indices))[:, 0]
    assert found == pytest.approx(shares / (shares + 1 / 3), abs=1e-6)
    assert network.get_layer(LOGIT_LAYER).name == LOGIT_LAYER
    assert network.trainable_weights == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HistoryEmbedding(items=0, length=4), "must be positive"),
        (lambda: HistoryEmbedding(items=3, length=4)(np.ones((1, 5), np.int32)), "at most 4"),
        (lambda: CausalBlock(num_heads=0), "num_heads from 1"),
        (lambda: CausalBlock(dropout=1.0), "dropout in"),
        (lambda: CausalBlock(num_heads=3)(np.zeros((1, 2, 8)), np.ones((1, 2))), "a multiple of 3 heads"),
        (lambda: SASRecConfig(embed_dim=6, num_heads=4), "num_heads must divide embed_dim, 6; got 4"),
    ],
)
def test_wrong_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()
