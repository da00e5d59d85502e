import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from ml.evaluation.gates import Gates, calibrated, not_below_champion, not_below_movie_mean
from ml.evaluation.intervals import compare_by_user, compare_models

GATES = Gates(metric="ndcg_at_10", below_champion=0.01, below_movie_mean=0.02, calibration_error=0.05)


def comparison(difference: float, low: float, high: float) -> pd.DataFrame:
    rows = [("recall_at_10", -1.0, -1.0, -1.0), ("ndcg_at_10", difference, low, high)]
    return pd.DataFrame(rows, columns=["metric", "difference", "low", "high"])


@pytest.mark.parametrize(
    ("difference", "low", "high", "passed"),
    [
        (0.02, 0.015, 0.025, True),  # better
        (0.0, -0.009, 0.009, True),  # surely not worse by more than the margin
        (0.0, -0.011, 0.011, False),  # equal, as far as anybody can tell, and that is not far enough
        (-0.02, -0.025, -0.015, False),  # worse
        (0.0, -0.01, 0.01, True),  # at the margin
    ],
)
def test_champion_is_beaten_or_all_but_matched(difference: float, low: float, high: float, passed: bool) -> None:
    finding = not_below_champion(GATES, comparison(difference, low, high))
    assert finding.passed == passed
    assert finding.facts == {
        "metric": "ndcg_at_10", "difference": difference, "low": low, "high": high, "margin": 0.01,
    }  # fmt: skip


def test_first_version_has_no_champion_to_beat() -> None:
    assert not_below_champion(GATES, None).passed


def test_equal_scores_pass_and_reversed_ones_do_not() -> None:
    rng = np.random.default_rng(3)
    test = pd.DataFrame({"user_id": np.repeat(np.arange(40), 15), "movie_id": np.tile(np.arange(15), 40)})
    test["label"] = rng.integers(0, 2, len(test))
    good = test["label"] + rng.normal(scale=0.5, size=len(test))
    for challenger, passed in ((good, True), (-good, False)):
        compared = compare_models(test, {"challenger": challenger.to_numpy(), "champion": good.to_numpy()})
        assert not_below_champion(GATES, compared).passed == passed


@pytest.mark.parametrize(
    ("difference", "low", "high", "passed"),
    [
        (0.02, 0.015, 0.025, True),  # better
        (-0.03, -0.2, 0.14, True),  # worse, as it happens, but on too few users to tell
        (-0.03, -0.04, -0.02, True),  # at the margin
        (-0.03, -0.04, -0.021, False),  # worse
        (np.nan, np.nan, np.nan, False),  # nothing was measured
    ],
)
def test_movie_mean_is_not_clearly_better(difference: float, low: float, high: float, passed: bool) -> None:
    finding = not_below_movie_mean(GATES, comparison(difference, low, high))
    assert finding.passed == passed
    assert finding.facts == pytest.approx(
        {"metric": "ndcg_at_10", "difference": difference, "low": low, "high": high, "margin": 0.02}, nan_ok=True
    )


@pytest.mark.parametrize(("users", "passed"), [(12, True), (2_000, False)])
def test_the_same_difference_counts_only_on_enough_users(users: int, passed: bool) -> None:
    # The first of every ten users finds nothing where the movie mean finds everything; the others are equal.
    values = pd.DataFrame({"ndcg_at_10": np.arange(users) % 10 > 0}, dtype=float)
    compared = compare_by_user({"challenger": values, "movie_mean": values * 0 + 1})
    assert not_below_movie_mean(GATES, compared).passed == passed


@pytest.mark.parametrize(("error", "margin", "passed"), [(0.05, 0.05, True), (0.051, 0.05, False), (0.9, None, True)])
def test_calibration_is_asked_of_probabilities(error: float, margin: float | None, passed: bool) -> None:
    gates = GATES.model_copy(update={"calibration_error": margin})
    assert calibrated(gates, pd.Series({"expected_calibration_error": error})).passed == passed


@pytest.mark.parametrize("wrong", [{"metric": "auc"}, {"below_champion": -0.1}, {"calibration_error": 0}, {"lift": 1}])
def test_bad_gates_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Gates(**{**GATES.model_dump(), **wrong})
