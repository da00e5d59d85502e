from collections.abc import Sequence

import keras
import numpy as np
import pytest

from ml.training.config import TrainingConfig
from ml.training.early_stopping import EarlyStopping, best_epoch
from ml.training.reports import EpochReport

PATIENT = TrainingConfig(epochs=9, patience=2)


def reports_of(losses: Sequence[float]) -> list[EpochReport]:
    return [EpochReport(epoch, 9, 0.0, loss, 1.0, 1.0) for epoch, loss in enumerate(losses, start=1)]


@pytest.fixture
def model() -> keras.Model:
    return keras.Sequential([keras.Input((1,)), keras.layers.Dense(1), keras.layers.BatchNormalization()])


def observe(stopping: EarlyStopping, model: keras.Model, losses: Sequence[float], start: int = 0) -> None:
    """Epochs after which every weight is the epoch's number."""
    reports = reports_of(losses)
    for epoch in range(start + 1, len(reports) + 1):
        model.set_weights([np.full(weight.shape, epoch) for weight in model.weights])
        stopping.observe(model, reports[:epoch])


def values(weights: Sequence[np.ndarray]) -> set[float]:
    return {float(value) for weight in weights for value in np.ravel(weight)}


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


@pytest.mark.parametrize(
    ("losses", "due"),
    [
        ([], False),
        ([0.5, 0.6], False),
        ([0.5, 0.6, 0.7], True),
        ([0.5, 0.6, 0.5], True),  # an equal loss is not a lower one
        ([0.5, 0.6, 0.4], False),
        ([0.5, 0.6, 0.4, 0.45], False),
        ([0.5, 0.6, 0.4, 0.45, 0.41], True),
    ],
)
def test_due_after_epochs_without_a_lower_loss(losses: list[float], due: bool) -> None:
    assert EarlyStopping(PATIENT).is_due(reports_of(losses)) == due
    assert not EarlyStopping(TrainingConfig()).is_due(reports_of(losses))


def test_finishes_with_the_best_weights(model: keras.Model) -> None:
    stopping = EarlyStopping(PATIENT)
    observe(stopping, model, [0.5, 0.3, 0.4, 0.35])
    assert values(model.get_weights()) == {4}
    stopping.finish(model)
    assert values(model.get_weights()) == {2}


def test_weights_of_epochs_that_are_done_already(model: keras.Model) -> None:
    done = [np.full(weight.shape, 2) for weight in model.weights]
    for losses, best in (([0.5, 0.3, 0.4], 2), ([0.5, 0.3, 0.2], 3)):
        stopping = EarlyStopping(PATIENT, done)
        observe(stopping, model, losses, start=2)
        stopping.finish(model)
        assert values(model.get_weights()) == {best}


def test_does_nothing_without_patience(model: keras.Model) -> None:
    stopping = EarlyStopping(TrainingConfig())
    observe(stopping, model, [0.5, 0.6, 0.7])
    stopping.finish(model)
    assert stopping.weights == []
    assert values(model.get_weights()) == {3}
