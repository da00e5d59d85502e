import numpy as np
import pandas as pd
import pytest

from ml.evaluation.catalogue import CATALOGUE_METRICS
from ml.evaluation.comparison import METRICS
from ml.evaluation.stability import (
    BETTER_HIGH,
    BETTER_LOW,
    MetricLimits,
    metric_drops,
    no_metric_drops,
    slots_changed,
    stable_lists,
)

LIMITS = MetricLimits(default=0.02, overrides={"auc": 0.1, "log_loss": None})
WITHOUT_A_BETTER = {f"catalogue_{name}_at_10" for name in ("mean_popularity", "list_overlap", "list_similarity")}


def lists(**movies: list[int]) -> pd.DataFrame:
    """Return one list per user, ``u<number>``."""
    rows = [(int(user[1:]), rank, movie) for user, own in movies.items() for rank, movie in enumerate(own, 1)]
    return pd.DataFrame(rows, columns=["user_id", "rank", "movie_id"])


def evaluation(**values: float) -> pd.DataFrame:
    return pd.DataFrame({"model": "autoint", "metric": list(values), "value": list(values.values())})


def test_slots_by_hand() -> None:
    before = lists(u1=[1, 2, 3], u2=[1, 2, 3], u3=[4, 5, 6])
    # User 1: another order. User 2: two new ones, of which user 3 had one. User 4 had no list, user 3 has none now.
    after = lists(u1=[3, 1, 2], u2=[1, 4, 9], u4=[7, 8, 9])
    assert slots_changed(before, after) == pytest.approx(2 / 6)
    assert slots_changed(before, before) == 0
    assert slots_changed(before, lists(u1=[7, 8, 9])) == 1
    assert np.isnan(slots_changed(before, lists(u9=[1, 2, 3])))


@pytest.mark.parametrize(("limit", "passed"), [(0.34, True), (0.33, False)])
def test_slots_against_a_limit(limit: float, passed: bool) -> None:
    finding = stable_lists(lists(u1=[1, 2, 3]), lists(u1=[3, 1, 7], u2=[7, 8, 9]), limit)
    assert finding.passed == passed
    assert finding.facts["slots_changed"] == pytest.approx(1 / 3)
    assert finding.facts["users"] == 1
    assert finding.facts["summary"].startswith("33.3% of the slots of 1 users hold a movie that was not in")


def test_first_lists_and_other_users_are_not_judged() -> None:
    first = stable_lists(None, lists(u1=[1]), 0.1)
    assert first.passed
    assert "First publication" in first.facts["summary"]
    others = stable_lists(lists(u1=[1]), lists(u2=[2]), 0.1)
    assert others.passed
    assert "Not judged" in others.facts["summary"]


def test_every_metric_has_its_direction() -> None:
    assert {*BETTER_HIGH, *BETTER_LOW} == {*METRICS, *CATALOGUE_METRICS} - WITHOUT_A_BETTER


def test_drops_by_hand() -> None:
    before = evaluation(ndcg_at_10=0.8, log_loss=0.5, catalogue_mean_popularity_at_10=100, recall_at_10=0.5)
    after = evaluation(log_loss=0.6, ndcg_at_10=0.75, catalogue_mean_popularity_at_10=10, hit_rate_at_10=1)
    drops = metric_drops(before, after)
    assert list(drops) == ["model", "metric", "before", "after", "drop"]
    assert drops["metric"].tolist() == ["log_loss", "ndcg_at_10"]
    assert drops["drop"].tolist() == pytest.approx([0.1, 0.05])
    assert metric_drops(after, before)["drop"].tolist() == pytest.approx([-0.05, -0.1])
    assert metric_drops(before.assign(model="other"), after).empty


@pytest.mark.parametrize(
    ("before", "after", "passed"),
    [
        ({"ndcg_at_10": 0.8}, {"ndcg_at_10": 0.781}, True),
        ({"ndcg_at_10": 0.8}, {"ndcg_at_10": 0.779}, False),
        ({"ndcg_at_10": 0.8}, {"ndcg_at_10": 0.9}, True),
        ({"ndcg_at_10": 0.8}, {"ndcg_at_10": np.nan}, False),
        ({"ndcg_at_10": np.nan}, {"ndcg_at_10": 0.8}, True),
        ({"auc": 0.8}, {"auc": 0.71}, True),
        ({"auc": 0.8}, {"auc": 0.69}, False),
        ({"expected_calibration_error": 0.01}, {"expected_calibration_error": 0.04}, False),
        ({"log_loss": 0.1}, {"log_loss": 9.0}, True),  # it has no limit here
    ],
)
def test_drops_and_limits(before: dict[str, float], after: dict[str, float], passed: bool) -> None:
    finding = no_metric_drops(metric_drops(evaluation(**before), evaluation(**after)), LIMITS)
    assert (finding.name, finding.passed) == ("metric_drops", passed)


def test_drops_in_a_sentence() -> None:
    before, after = evaluation(ndcg_at_10=0.8, auc=0.8), evaluation(ndcg_at_10=0.7, auc=0.6)
    finding = no_metric_drops(metric_drops(before, after), LIMITS)
    assert finding.facts == {
        "summary": "Metrics are worse than in the last evaluation: autoint auc 0.8 to 0.6 (limit 0.1), "
        "autoint ndcg_at_10 0.8 to 0.7 (limit 0.02).",
        "metrics": 2,
        "metrics_dropped": 2,
    }


def test_first_evaluation_passes_and_says_so() -> None:
    after = evaluation(ndcg_at_10=0.7)
    finding = no_metric_drops(metric_drops(after.iloc[:0], after), LIMITS)
    assert finding.passed
    assert finding.facts["summary"].startswith("No earlier evaluation")
