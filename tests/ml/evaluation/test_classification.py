from math import log

import numpy as np
import pytest
from sklearn import metrics

from ml.evaluation.classification import auc, log_loss


@pytest.fixture
def labels_and_probabilities() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    probabilities = rng.random(500).round(2)  # with ties
    return (rng.random(500) < probabilities).astype(np.int8), probabilities


@pytest.mark.parametrize(
    ("labels", "scores", "expected"),
    [
        ([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], 1),
        ([1, 1, 0, 0], [0.1, 0.2, 0.3, 0.4], 0),
        ([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], 3 / 4),  # three of the four pairs are in order
        ([0, 1, 0, 1], [0.1, 0.2, 0.2, 0.4], 7 / 8),  # a tied pair counts half
        ([0, 1, 0, 1], [5, 5, 5, 5], 1 / 2),
        ([0, 1, 0, 1], [-40, 3, 5, 800], 3 / 4),  # any scale
    ],
)
def test_auc_by_hand(labels: list[int], scores: list[float], expected: float) -> None:
    assert auc(np.array(labels), np.array(scores)) == pytest.approx(expected)


def test_log_loss_by_hand() -> None:
    labels, probabilities = np.array([1, 0, 1]), np.array([0.9, 0.2, 0.5])
    assert log_loss(labels, probabilities) == pytest.approx(-(log(0.9) + log(0.8) + log(0.5)) / 3)


def test_metrics_are_those_of_scikit_learn(labels_and_probabilities: tuple[np.ndarray, np.ndarray]) -> None:
    labels, probabilities = labels_and_probabilities
    assert auc(labels, probabilities) == pytest.approx(metrics.roc_auc_score(labels, probabilities))
    assert log_loss(labels, probabilities) == pytest.approx(metrics.log_loss(labels, probabilities))


def test_metrics_are_plain_floats(labels_and_probabilities: tuple[np.ndarray, np.ndarray]) -> None:
    assert type(auc(*labels_and_probabilities)) is float
    assert type(log_loss(*labels_and_probabilities)) is float


def test_log_loss_of_single_precision_ones_and_zeros_is_finite() -> None:
    labels = np.array([1, 0, 1, 0])
    assert log_loss(labels, labels.astype(np.float32)) == pytest.approx(0, abs=1e-6)
    assert np.isfinite(log_loss(labels, 1 - labels.astype(np.float32)))


@pytest.mark.parametrize("label", [0, 1])
def test_rows_of_one_label_have_a_loss_and_no_auc(label: int) -> None:
    labels, probabilities = np.full(2, label), np.array([0.25, 0.75])
    assert np.isnan(auc(labels, probabilities))
    assert log_loss(labels, probabilities) == pytest.approx(-(np.log(0.25) + np.log(0.75)) / 2)


def test_no_rows_have_neither() -> None:
    nothing = np.array([])
    assert np.isnan([auc(nothing, nothing), log_loss(nothing, nothing)]).all()
