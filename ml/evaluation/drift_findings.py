"""Check that tonight's new ratings are close enough to the previous night's.

The facts of each finding include ``summary``, one sentence for people.
"""

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field

from ml.checks import Finding
from ml.evaluation.drift import BASE, Comparison
from ml.evaluation.limits import FieldLimits

_COUNTS = ("ratings", "users", "movies")
_NOTHING = "Nothing has been ingested yet: there are only the base files, so there is nothing to compare."


class CountRatio(BaseModel, frozen=True, extra="forbid"):
    """Accepted range of tonight's numbers of ratings, users and movies divided by the previous night's."""

    low: float = Field(gt=0, le=1, description="Smallest ratio.")
    high: float = Field(ge=1, description="Largest ratio.")


class DriftThresholds(BaseModel, frozen=True, extra="forbid"):
    """How far tonight's new ratings may be from the previous night's."""

    minimum_rows: int = Field(ge=1, description="Number of ratings below which a night is not judged.")
    count_ratio: CountRatio
    positive_share: float = Field(gt=0, le=1, description="Largest change of the share of positive labels.")
    stability_index: FieldLimits = Field(description="Largest population stability index by feature.")
    unknown_share: FieldLimits = Field(
        description="Largest share of rows with a value that no earlier row has, by feature."
    )


def counts(comparison: Comparison, thresholds: DriftThresholds) -> Finding:
    """Check that tonight has about as many ratings, users and movies as the previous night.

    Not judged if the previous ratings are the base files, or if neither night has ``minimum_rows`` ratings.
    """
    name = "counts"
    if comparison.tonight == BASE:
        return _not_judged(name, _NOTHING)
    before, tonight = (
        {kind: comparison.total(kind, night) for kind in _COUNTS} for night in (comparison.before, comparison.tonight)
    )
    ratings, users, movies = (f"{tonight[kind]:,.0f} {kind}" for kind in _COUNTS)
    brought = f"{_name(comparison.tonight).capitalize()} has {ratings} by {users} of {movies}"
    if comparison.before == BASE:
        return _not_judged(name, f"{brought}; there is no earlier ingestion to compare with.")
    if max(before["ratings"], tonight["ratings"]) < thresholds.minimum_rows:
        return _not_judged(name, f"{brought}; not judged: {_too_few(comparison, thresholds)}.")
    ratios = {kind: tonight[kind] / before[kind] for kind in _COUNTS}
    allowed = thresholds.count_ratio
    outside = [kind for kind, ratio in ratios.items() if not allowed.low <= ratio <= allowed.high]
    text = ", ".join(f"{kind} {ratio:.3g}" for kind, ratio in ratios.items())
    summary = f"{brought}. Divided by those of {_name(comparison.before)}: {text}"
    summary += f"; accepted: {allowed.low:g} to {allowed.high:g}"
    facts = {f"{kind}_ratio": ratio for kind, ratio in ratios.items()}
    return Finding(name, not outside, {"summary": f"{summary}.", **facts, **allowed.model_dump()})


def positive_share(comparison: Comparison, thresholds: DriftThresholds) -> Finding:
    """Check that tonight's share of positive labels is close to the previous one; both need enough ratings."""
    name = "positive_share"
    if problem := _unjudgeable(comparison, thresholds):
        return _not_judged(name, problem)
    before, tonight = (comparison.total(name, ingestion) for ingestion in (comparison.before, comparison.tonight))
    change, limit = tonight - before, thresholds.positive_share
    summary = (
        f"The share of positive labels is {tonight:.3f} in {_name(comparison.tonight)} and {before:.3f} in "
        f"{_name(comparison.before)}: a change of {change:+.3f}; the limit is {limit:g}."
    )
    facts = {"tonight": tonight, "before": before, "change": change, "limit": limit}
    return Finding(name, abs(change) <= limit, {"summary": summary, **facts})


def population_stability(comparison: Comparison, thresholds: DriftThresholds) -> Finding:
    """Check that no feature's stability index is above its limit, and above chance for so few rows.

    Judged only if both nights have enough ratings.
    """
    name = "population_stability"
    if problem := _unjudgeable(comparison, thresholds):
        return _not_judged(name, problem)
    judged = _judged(with_limits(comparison.fields, thresholds), "stability_index")
    above = judged[judged["stability_index"] > judged["limit"]]
    of = f"of {_name(comparison.tonight)} compared with {_name(comparison.before)}"
    return _by_field(name, f"Population stability index {of}", "stability_index", judged, above)


def unknown_codes(comparison: Comparison, thresholds: DriftThresholds) -> Finding:
    """Check the share of tonight's rows with a value that no earlier row has, for each feature."""
    name = "unknown_codes"
    if problem := _unjudgeable(comparison, thresholds, tonight_alone=True):
        return _not_judged(name, problem)
    limit = _limit_of(comparison.fields, thresholds.unknown_share)
    judged = _judged(comparison.fields.assign(limit=limit), "unknown_share")
    above = judged[judged["unknown_share"] > judged["limit"]]
    of = f"Share of the rows of {_name(comparison.tonight)} with a new value"
    return _by_field(name, of, "unknown_share", judged, above)


def drift_findings(comparison: Comparison, thresholds: DriftThresholds) -> list[Finding]:
    """Return all findings."""
    return [judge(comparison, thresholds) for judge in (counts, positive_share, population_stability, unknown_codes)]


def with_limits(fields: pd.DataFrame, thresholds: DriftThresholds) -> pd.DataFrame:
    """Return ``Comparison.fields`` with a column ``limit``, the largest accepted stability index; NaN for no limit.

    The limit is the threshold or ``by_chance``, whichever is larger.
    """
    limit = _limit_of(fields, thresholds.stability_index)
    return fields.assign(limit=limit.where(limit.isna(), np.maximum(limit, fields["by_chance"])))


def _limit_of(fields: pd.DataFrame, limits: FieldLimits) -> pd.Series:
    return fields["field"].map({name: limits.of(name) for name in fields["field"]}).astype("float64")


def _judged(fields: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Return the features that have a limit, sorted by limit minus value, ascending."""
    judged = fields[fields["limit"].notna()]
    return judged.iloc[(judged["limit"] - judged[measure]).argsort(kind="stable")]


def _by_field(name: str, title: str, measure: str, judged: pd.DataFrame, above: pd.DataFrame) -> Finding:
    facts = dict(zip(judged["field"], judged[measure].astype(float), strict=True))
    if len(above):
        rows = above[["field", measure, "limit"]].itertuples(index=False)
        text = ", ".join(f"{field} {value:.3g} (limit {limit:.3g})" for field, value, limit in rows)
    elif len(judged):
        top = judged[measure].argmax()
        largest = f"at most {judged[measure].max():.3g} ({judged['field'].iloc[top]})"
        text = f"{largest} in {len(judged)} features, all within their limits"
    else:
        text = "no feature has a limit"
    return Finding(name, not len(above), {"summary": f"{title}: {text}.", **facts})


def _unjudgeable(comparison: Comparison, thresholds: DriftThresholds, tonight_alone: bool = False) -> str | None:
    """Return why the comparison is not judged; None if it is."""
    if comparison.tonight == BASE:
        return _NOTHING
    ingestions = {comparison.tonight} if tonight_alone else {comparison.tonight, comparison.before}
    if min(comparison.total("ratings", ingestion) for ingestion in ingestions) >= thresholds.minimum_rows:
        return None
    return f"Not judged: {_too_few(comparison, thresholds)}."


def _too_few(comparison: Comparison, thresholds: DriftThresholds) -> str:
    tonight, before = (
        f"{comparison.total('ratings', ingestion):,.0f} {of} {_name(ingestion)}"
        for ingestion, of in ((comparison.tonight, "ratings of"), (comparison.before, "of"))
    )
    return f"{tonight} and {before}; at least {thresholds.minimum_rows:,} are needed"


def _name(ingestion: int) -> str:
    return "the base files" if ingestion == BASE else f"ingestion {ingestion}"


def _not_judged(name: str, problem: str) -> Finding:
    return Finding(name, True, {"summary": problem})
