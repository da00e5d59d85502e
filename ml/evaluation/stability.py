"""Check that lists and metrics are close to those that they replace.

The facts of each finding include ``summary``, one sentence for people.
"""

import numpy as np
import pandas as pd

from ml.checks import Finding
from ml.evaluation.catalogue import CATALOGUE_USER_METRICS
from ml.evaluation.limits import Limits
from ml.evaluation.ranking import RANKING_METRICS

_LISTS_BETTER_HIGH = (*CATALOGUE_USER_METRICS, "catalogue_coverage_at_10", "catalogue_unbiased_recall_at_10")
BETTER_HIGH = (*RANKING_METRICS, "auc", *_LISTS_BETTER_HIGH)
BETTER_LOW = ("log_loss", "expected_calibration_error")
_PAIR = ["user_id", "movie_id"]


class MetricLimits(Limits):
    """Limits by metric. Metrics that are neither better nor worse, such as a list's popularity, have none."""

    names = (*BETTER_HIGH, *BETTER_LOW)


def slots_changed(before: pd.DataFrame, after: pd.DataFrame) -> float:
    """Compute the share of the slots of ``after`` whose item was not in the same user's list before.

    Only users with a list in both count. A different rank is not a change.

    Args:
        before: user_id, movie_id, one row per listed item.
        after: the same for the new lists.

    Returns:
        From 0 to 1; NaN if no user has a list in both.
    """
    own = after[after["user_id"].isin(before["user_id"])]
    kept = pd.MultiIndex.from_frame(own[_PAIR]).isin(pd.MultiIndex.from_frame(before[_PAIR]))
    return float(1 - kept.mean()) if len(own) else np.nan


def stable_lists(before: pd.DataFrame | None, after: pd.DataFrame, limit: float) -> Finding:
    """Check that the share of changed slots is within the limit.

    Args:
        before: see ``slots_changed``; None if nothing is published yet.
        after: see ``slots_changed``.
        limit: largest share allowed.
    """
    name = "stable_lists"
    if before is None:
        return Finding(name, True, {"summary": "First publication: there are no earlier lists to compare with."})
    users = int(after.loc[after["user_id"].isin(before["user_id"]), "user_id"].nunique())
    if not users:
        return Finding(
            name, True, {"summary": "Not judged: no user has a list in both this table and the previous one."}
        )
    share = slots_changed(before, after)
    summary = f"{share:.1%} of the slots of {users:,} users hold a movie that was not in the user's list before"
    facts = {"slots_changed": share, "users": users, "limit": limit}
    return Finding(name, share <= limit, {"summary": f"{summary}; the limit is {limit:.0%}.", **facts})


def metric_drops(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Compute how much worse each metric of each model has become.

    Args:
        before: model, metric, value, as in evaluation.parquet.
        after: the same for the new evaluation.

    Returns:
        One row for each model and metric in both, for metrics with a better direction, in the order of ``after``.
        Columns model, metric (str), before, after, drop (float64: before minus after, or after minus before if lower is
        better; positive is worse).
    """
    both = after.merge(before, on=["model", "metric"], suffixes=("_after", "_before"), validate="one_to_one")
    both = both[both["metric"].isin(MetricLimits.names)].reset_index(drop=True)
    sign = np.where(both["metric"].isin(BETTER_LOW), -1.0, 1.0)
    both = both.rename(columns={"value_before": "before", "value_after": "after"})
    return both.assign(drop=sign * (both["before"] - both["after"]))[["model", "metric", "before", "after", "drop"]]


def no_metric_drops(drops: pd.DataFrame, limits: MetricLimits) -> Finding:
    """Check that no metric dropped by more than its limit. A value that is now NaN counts as a drop.

    Args:
        drops: result of ``metric_drops``; without rows, there is nothing to judge.
        limits: limits by metric.
    """
    name = "metric_drops"
    if drops.empty:
        return Finding(name, True, {"summary": "No earlier evaluation has a metric of these models to compare with."})
    limit = drops["metric"].map({metric: limits.of(metric) for metric in MetricLimits.names}).astype("float64")
    judged = drops.assign(limit=limit)[limit.notna()]
    fallen = judged[~(judged["drop"] <= judged["limit"]) & judged["before"].notna()]
    facts = {"metrics": len(judged), "metrics_dropped": len(fallen)}
    if fallen.empty:
        text = f"None of {len(judged)} metrics is worse than in the last evaluation by more than its limit."
        return Finding(name, True, {"summary": text, **facts})
    rows = fallen.sort_values("drop", ascending=False, na_position="first").itertuples(index=False)
    details = ", ".join(
        f"{row.model} {row.metric} {row.before:.4g} to {row.after:.4g} (limit {row.limit:g})" for row in rows
    )
    return Finding(name, False, {"summary": f"Metrics are worse than in the last evaluation: {details}.", **facts})
