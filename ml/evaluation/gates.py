"""Check the gates that a newly trained model must pass to replace the published one."""

import pandas as pd
from pydantic import BaseModel, Field

from ml.checks import Finding
from ml.evaluation.catalogue import CATALOGUE_USER_METRICS
from ml.evaluation.ranking import RANKING_METRICS

_CALIBRATION = "expected_calibration_error"


class Gates(BaseModel, frozen=True, extra="forbid"):
    """The gates that a challenger must pass to become champion."""

    metric: str = Field(
        pattern=f"^({'|'.join((*RANKING_METRICS, *CATALOGUE_USER_METRICS))})$",
        description="Metric that compares challenger, champion and movie mean: a ranking metric with a value per user.",
    )
    below_champion: float = Field(
        ge=0,
        description="How far the challenger may be below the champion: the lower end of the 95 % interval of their "
        "paired difference must not be below minus this value.",
    )
    below_movie_mean: float = Field(
        ge=0,
        description="How far the challenger may be below the movie mean: the upper end of the 95 % interval of their "
        "paired difference must not be below minus this value.",
    )
    calibration_error: float | None = Field(
        default=None, gt=0, description="Largest expected calibration error; none if scores are not probabilities."
    )


def not_below_champion(gates: Gates, comparison: pd.DataFrame | None) -> Finding:
    """Check that the challenger's metric is not below the champion's on the same test rows by more than the margin.

    Passes if the lower end of the paired bootstrap's 95 % interval of challenger minus champion is not below minus the
    margin (a non-inferiority test).

    Args:
        gates: metric and margin.
        comparison: table from ``ml.evaluation.intervals`` with challenger (a) and champion (b); None if there is no
            other champion to beat.

    Returns:
        The finding.
    """
    if comparison is None:
        return Finding("not_below_champion", True, {"champion": "none to beat"})
    facts = _interval(comparison, gates.metric)
    passed = facts["low"] >= -gates.below_champion
    return Finding("not_below_champion", passed, {"metric": gates.metric, **facts, "margin": gates.below_champion})


def not_below_movie_mean(gates: Gates, comparison: pd.DataFrame) -> Finding:
    """Check that the challenger's metric is not shown to be below the movie mean's by more than the margin.

    Passes if the upper end of the paired bootstrap's 95 % interval of challenger minus movie mean is not below minus
    the margin, so that chance on a few users does not stop a model that nobody can tell from the movie mean.

    Args:
        gates: metric and margin.
        comparison: table from ``ml.evaluation.intervals`` with challenger (a) and movie mean (b).
    """
    facts = _interval(comparison, gates.metric)
    passed = facts["high"] >= -gates.below_movie_mean  # NaN, where nothing could be measured, does not pass
    return Finding("not_below_movie_mean", passed, {"metric": gates.metric, **facts, "margin": gates.below_movie_mean})


def _interval(comparison: pd.DataFrame, metric: str) -> dict[str, float]:
    """Return difference, low and high of the metric."""
    row = comparison.set_index("metric").loc[metric]
    names = ("difference", "low", "high")
    return dict(zip(names, row[list(names)].to_numpy(float).tolist(), strict=True))


def calibrated(gates: Gates, values: pd.Series) -> Finding:
    """Check that the challenger's expected calibration error is within the margin, if the gates have one."""
    error = float(values[_CALIBRATION])
    if gates.calibration_error is None:
        return Finding("calibrated", True, {_CALIBRATION: error, "margin": "none"})
    return Finding(
        "calibrated", error <= gates.calibration_error, {_CALIBRATION: error, "margin": gates.calibration_error}
    )
