import numpy as np
import pandas as pd
import pytest

from ml.evaluation.calibration import expected_calibration_error, reliability


def test_bins_by_hand() -> None:
    labels = np.array([0, 1, 1, 1, 0])
    probabilities = np.array([0.1, 0.2, 0.6, 0.7, 0.55])
    expected = pd.DataFrame(
        {
            "low": [0, 0.5],
            "high": [0.5, 1],
            "rows": [2, 3],
            "mean_probability": [0.15, 1.85 / 3],
            "share_positive": [1 / 2, 2 / 3],
        }
    )
    pd.testing.assert_frame_equal(reliability(labels, probabilities, bins=2), expected)
    error = (2 * (1 / 2 - 0.15) + 3 * (2 / 3 - 1.85 / 3)) / 5
    assert expected_calibration_error(labels, probabilities, bins=2) == pytest.approx(error)


def test_empty_bins_are_left_out() -> None:
    table = reliability(np.array([1, 0, 1]), np.array([0.95, 0.05, 0.97]))
    assert table.index.tolist() == [0, 1]
    assert table[["low", "high"]].to_numpy().tolist() == [[0, 0.1], [0.9, 1]]
    assert table["rows"].tolist() == [1, 2]


def test_bounds_belong_to_the_bin_above_and_one_to_the_last() -> None:
    probabilities = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1])
    table = reliability(np.zeros(11), probabilities)
    assert table["low"].tolist() == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert table["rows"].tolist() == [1] * 9 + [2]


def test_against_a_loop() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random(1000).astype(np.float32)
    labels = (rng.random(1000) < probabilities**2).astype(np.int8)
    table = reliability(labels, probabilities, bins=7)
    error = 0.0
    for row, low in zip(table.itertuples(), range(7), strict=True):
        members = [at for at, p in enumerate(probabilities) if low / 7 <= p < (low + 1) / 7]
        share = sum(int(labels[at]) for at in members) / len(members)
        mean = sum(float(probabilities[at]) for at in members) / len(members)
        assert (row.rows, row.share_positive, row.mean_probability) == pytest.approx((len(members), share, mean))
        error += len(members) / 1000 * abs(mean - share)
    assert table["rows"].sum() == 1000
    assert expected_calibration_error(labels, probabilities, bins=7) == pytest.approx(error)


@pytest.mark.parametrize(
    ("labels", "probabilities", "expected"),
    [
        ([0, 1, 1, 0], [0, 1, 1, 0], 0),  # sure and right
        ([0, 1, 1, 0], [1, 0, 0, 1], 1),  # sure and wrong
        ([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], 0),  # knows nothing, and says so
        ([1, 1, 1, 0], [0.5, 0.5, 0.5, 0.5], 1 / 4),
        ([0, 1], [0.41, 0.59], 0.41),  # errors of two bins do not cancel
        ([0, 1], [0.41, 0.49], 0.05),  # those within a bin do
    ],
)
def test_calibration_error_by_hand(labels: list[int], probabilities: list[float], expected: float) -> None:
    assert expected_calibration_error(np.array(labels), np.array(probabilities)) == pytest.approx(expected, abs=1e-12)


def test_calibration_error_is_a_plain_float() -> None:
    assert type(expected_calibration_error(np.array([0, 1]), np.array([0.2, 0.9], dtype=np.float32))) is float


def test_calibrated_probabilities_have_a_small_error() -> None:
    rng = np.random.default_rng(1)
    probabilities = rng.random(20_000)
    labels = rng.random(20_000) < probabilities
    assert expected_calibration_error(labels, probabilities) < 0.02
    assert expected_calibration_error(labels, probabilities / 2) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("wrong", [-0.01, 1.01, np.nan, np.inf])
def test_values_that_are_no_probabilities_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match=f"from 0 to 1, got {wrong}"):
        reliability(np.array([0, 1]), np.array([0.5, wrong]))
    with pytest.raises(ValueError, match="from 0 to 1"):
        expected_calibration_error(np.array([0, 1]), np.array([wrong, 0.5]))


def test_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="got 3 labels for 1 probabilities"):
        reliability(np.array([0, 1, 1]), np.array([0.5]))
