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
    below_movie_mean: float = Field(ge=0, description="How far the challenger may be below the movie mean.")
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
    row = comparison.set_index("metric").loc[gates.metric]
    names = ("difference", "low", "high")
    facts = dict(zip(names, row[list(names)].to_numpy(float).tolist(), strict=True))
    return Finding(
        "not_below_champion",
        facts["low"] >= -gates.below_champion,
        {"metric": gates.metric, **facts, "margin": gates.below_champion},
    )


def not_below_movie_mean(gates: Gates, values: pd.Series, movie_mean: pd.Series) -> Finding:
    """Check that the challenger's metric is not below the movie mean's by more than the margin.

    Args:
        gates: metric and margin.
        values: the challenger's metrics, by name.
        movie_mean: the baseline's, by name.
    """
    own, baseline = float(values[gates.metric]), float(movie_mean[gates.metric])
    return Finding(
        "not_below_movie_mean",
        own >= baseline - gates.below_movie_mean,
        {"metric": gates.metric, "challenger": own, "movie_mean": baseline, "margin": gates.below_movie_mean},
    )


def calibrated(gates: Gates, values: pd.Series) -> Finding:
    """Check that the challenger's expected calibration error is within the margin, if the gates have one."""
    error = float(values[_CALIBRATION])
    if gates.calibration_error is None:
        return Finding("calibrated", True, {_CALIBRATION: error, "margin": "none"})
    return Finding(
        "calibrated", error <= gates.calibration_error, {_CALIBRATION: error, "margin": gates.calibration_error}
    )
