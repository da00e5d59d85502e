from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ml.errors import DataError
from ml.features.histories import Histories
from ml.models.config import SASRecConfig
from ml.models.sequence import NextItemModel
from ml.training import history_trainer as module
from ml.training.checkpoint import Checkpoint
from ml.training.config import TrainingConfig
from ml.training.history_trainer import batch_of, held_out_counts, states_of, train_on_histories
from ml.training.reports import BatchReport, EpochReport

ITEMS, USERS = 12, 40
CONFIG = SASRecConfig(embed_dim=8, num_layers=1, length=6, dropout=0.1, negatives=5)
TRAINING = TrainingConfig(epochs=3, batch_size=48, learning_rate=0.02, reshuffle=True, validation_share=0.1, seed=1)


def histories_of(*lists: list[int]) -> Histories:
    lengths = [len(each) for each in lists]
    return Histories(np.concatenate([[0], np.cumsum(lengths)]), np.concatenate(lists).astype(np.int32))


@pytest.fixture(scope="module")
def cycles() -> Histories:
    """Every user goes through the items in the same circle, from another one; user 3 has rated nothing."""
    lengths = np.random.default_rng(0).integers(2, 11, USERS)
    lengths[3] = 0
    return histories_of(*[[(user + place) % ITEMS for place in range(length)] for user, length in enumerate(lengths)])


def trained(cycles: Histories, checkpoint: Checkpoint | None = None, **settings: Any) -> tuple[NextItemModel, Any]:
    model = NextItemModel(ITEMS, CONFIG, seed=1)
    return model, train_on_histories(model, cycles, TRAINING.model_copy(update=settings), checkpoint=checkpoint)


def test_the_latest_ratings_are_held_out() -> None:
    histories = histories_of([0] * 25, [0] * 2, [0] * 3, [])
    assert held_out_counts(histories, 0.1).tolist() == [2, 0, 1, 0]


def test_batch_by_hand() -> None:
    histories = histories_of([9, 9], [4, 2, 7, 5], [1, 8])
    batch = batch_of(histories, np.array([1, 2]), firsts=np.array([1, 1]), lasts=np.array([4, 2]), length=6)
    assert batch.tokens.tolist() == [[5, 3, 8], [0, 0, 2]]  # item + 1, and padding on the left
    assert batch.next_items.tolist() == [[2, 7, 5], [0, 0, 8]]
    assert batch.weights.tolist() == [[1, 1, 1], [0, 0, 1]]
    assert batch.items == 4


def test_batch_of_held_out_items_and_long_histories() -> None:
    histories = histories_of([4, 2, 7, 5, 3])
    # No next item of the first token counts, so it is left out.
    batch = batch_of(histories, np.array([0]), firsts=np.array([4]), lasts=np.array([5]), length=2)
    assert (batch.tokens.tolist(), batch.next_items.tolist(), batch.weights.tolist()) == ([[8, 6]], [[3]], [[1]])


def test_an_epoch_has_every_next_item_once_and_none_that_is_held_out(cycles: Histories) -> None:
    batches = module._Batches(cycles, TRAINING, length=10)
    own, other = batches.training(0), batches.training(1)
    lengths, held_out = cycles.lengths, held_out_counts(cycles, 0.1)
    assert sum(batch.items for batch in own) == np.maximum(lengths - held_out - 1, 0).sum()
    assert sum(batch.items for batch in batches.validation()) == held_out.sum()
    assert all(batch.tokens.size <= TRAINING.batch_size for batch in own)
    assert len(own) > 3
    assert [each.tokens.tolist() for each in own] != [each.tokens.tolist() for each in other]
    again = module._Batches(cycles, TRAINING, length=10).training(0)
    assert [each.tokens.tolist() for each in own] == [each.tokens.tolist() for each in again]


def test_the_next_item_is_learned(cycles: Histories) -> None:
    config = CONFIG.model_copy(update={"embed_dim": 16, "dropout": 0.0})
    model = NextItemModel(ITEMS, config, seed=1)
    reports = train_on_histories(model, cycles, TRAINING.model_copy(update={"epochs": 16, "learning_rate": 0.01}))
    assert reports[0].val_loss > 2
    assert reports[-1].val_loss < 0.2
    scores = states_of(model, cycles) @ np.asarray(model.vectors).T
    users = np.flatnonzero(cycles.lengths)
    right = scores[users].argmax(axis=1) == (cycles.last(users) + 1) % ITEMS
    assert right.mean() > 0.9


def test_states_are_those_after_the_last_items(cycles: Histories) -> None:
    model = NextItemModel(ITEMS, CONFIG, seed=1)
    found = states_of(model, cycles)
    for user in np.flatnonzero(cycles.lengths):
        own = cycles.user(user)[-CONFIG.length :][None] + 1
        assert found[user] == pytest.approx(np.asarray(model(own))[0, -1], abs=1e-5)


def test_a_user_without_ratings_has_the_mean_state(cycles: Histories) -> None:
    states = states_of(NextItemModel(ITEMS, CONFIG, seed=1), cycles)
    assert states[3] == pytest.approx(np.delete(states, 3, axis=0).mean(axis=0), abs=1e-6)


def test_an_interrupted_training_ends_with_the_same_weights(cycles: Histories, tmp_path: Path) -> None:
    model, reports = trained(cycles)

    def interrupt(report: EpochReport) -> None:
        if report.epoch == 2:
            raise KeyboardInterrupt

    checkpoint = Checkpoint(tmp_path / "own")
    with pytest.raises(KeyboardInterrupt):
        train_on_histories(NextItemModel(ITEMS, CONFIG, seed=1), cycles, TRAINING, interrupt, checkpoint=checkpoint)
    resumed, again = trained(cycles, checkpoint)
    assert [report.train_loss for report in again] == [report.train_loss for report in reports]
    for own, other in zip(model.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)


def test_patience_ends_with_the_best_weights(cycles: Histories) -> None:
    model, reports = trained(cycles, epochs=12, learning_rate=0.5, patience=1)
    best = min(reports, key=lambda report: report.val_loss).epoch
    assert len(reports) == best + 1 < 12
    until, _ = trained(cycles, epochs=best, learning_rate=0.5)
    for own, other in zip(model.get_weights(), until.get_weights(), strict=True):
        np.testing.assert_array_equal(own, other)


def test_progress_is_reported_within_an_epoch(cycles: Histories, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_BATCH_REPORTS", 0.0)
    found: list[BatchReport] = []
    model = NextItemModel(ITEMS, CONFIG, seed=1)
    train_on_histories(model, cycles, TRAINING.model_copy(update={"epochs": 1}), on_batch=found.append)
    assert [each.batch for each in found] == [*range(1, found[0].batches + 1)]
    assert found[-1].seconds_left == pytest.approx(0, abs=1e-9)


def test_histories_too_short_to_learn_from_are_refused() -> None:
    with pytest.raises(DataError, match="no user has 3 ratings or more"):
        trained(histories_of([1, 2], [3]))
