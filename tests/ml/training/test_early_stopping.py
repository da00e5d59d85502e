import math
from collections.abc import Sequence

import keras
import numpy as np
import pytest

from ml.training.config import TrainingConfig
from ml.training.early_stopping import EarlyStopping, best_epoch, is_stopped
from ml.training.reports import EpochReport

PATIENT = TrainingConfig(epochs=9, patience=2)


def reports_of(losses: Sequence[float]) -> list[EpochReport]:
    return [EpochReport(epoch, 9, 0.0, loss, 1.0, 1.0) for epoch, loss in enumerate(losses, start=1)]


@pytest.mark.parametrize(
    ("losses", "best"),
    [
        ([0.5], 1),
        ([0.5, 0.4, 0.3], 3),
        ([0.5, 0.3, 0.4], 2),
        ([0.5, 0.3, 0.3], 2),
        ([float("nan"), 0.5, float("nan")], 2),
        ([float("nan"), float("nan")], 1),
    ],
)
def test_best_epoch_is_the_first_of_the_lowest_loss(losses: list[float], best: int) -> None:
    assert best_epoch(reports_of(losses), PATIENT) == best


def test_best_epoch_is_the_last_without_patience() -> None:
    assert best_epoch(reports_of([0.1, 0.3, 0.2]), TrainingConfig()) == 3


CURVES = [
    [0.5, 0.6],
    [0.5, 0.6, 0.7],
    [0.5, 0.6, 0.5],  # an equal loss is not lower
    [0.5, 0.6, 0.4],
    [0.5, 0.6, 0.4, 0.45],
    [0.5, 0.6, 0.4, 0.45, 0.41],
    [math.nan, math.nan, 0.5, math.nan],
    [math.nan, math.nan, math.nan],
    [0.5, math.nan, math.nan],
]


def trained(losses: Sequence[float], done: int = 0) -> tuple[set[float], bool]:
    """Report epochs after which every weight is the epoch's number; give the final weights, and whether it stopped."""
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1), keras.layers.BatchNormalization()])

    def weights(epoch: int) -> list[np.ndarray]:
        return [np.full(weight.shape, epoch) for weight in model.weights]

    finished = reports_of(losses[:done])
    stopping = EarlyStopping(2, finished, weights(best_epoch(finished, PATIENT)) if done else ())
    stopping.set_model(model)
    model.stop_training = False
    stopping.on_train_begin()
    for epoch, loss in list(enumerate(losses, start=1))[done:]:
        model.set_weights(weights(epoch))
        stopping.on_epoch_end(epoch - 1, {"val_loss": loss})
    stopping.on_train_end()
    return {float(value) for weight in model.get_weights() for value in np.ravel(weight)}, model.stop_training


@pytest.mark.parametrize("losses", CURVES)
def test_stops_after_epochs_without_a_lower_loss_with_the_best_weights(losses: list[float]) -> None:
    reports = reports_of(losses)
    due = len(losses) - best_epoch(reports, PATIENT) >= 2
    assert is_stopped(reports, PATIENT) == due
    assert trained(losses) == ({best_epoch(reports, PATIENT)}, due)


@pytest.mark.parametrize("losses", CURVES)
def test_resumes_as_without_interruption(losses: list[float]) -> None:
    for done in range(1, len(losses) + 1):
        assert trained(losses, done) == trained(losses)


def test_never_stops_without_patience_or_epochs() -> None:
    assert not is_stopped(reports_of([0.5, 0.6, 0.7, 0.8]), TrainingConfig())
    assert not is_stopped([], PATIENT)
