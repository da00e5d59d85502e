"""Whether a newly trained model may take the place of the one whose lists are published."""

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from ml.checks import Finding
from ml.evaluation.catalogue import CATALOGUE_USER_METRICS
from ml.evaluation.ranking import RANKING_METRICS

_CALIBRATION = "expected_calibration_error"


class Gates(BaseModel):
    """What a challenger must hold to become champion."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    metric: str = Field(
        pattern=f"^({'|'.join((*RANKING_METRICS, *CATALOGUE_USER_METRICS))})$",
        description="What challenger, champion and movie mean are compared by: a ranking metric with a value a user.",
    )
    below_champion: float = Field(
        ge=0,
        description="How far the challenger may be below the champion: what the 95 % interval of their paired "
        "difference must lie above, as a negative number.",
    )
    below_movie_mean: float = Field(ge=0, description="How far the challenger may be below the movie mean.")
    calibration_error: float | None = Field(
        default=None, gt=0, description="Largest expected calibration error; none for scores that are no probabilities."
    )


def not_below_champion(gates: Gates, comparison: pd.DataFrame | None) -> Finding:
    """The challenger's metric is not below the champion's on the same test rows by more than the margin.

    Holds when the lower end of the paired bootstrap's 95 % interval of challenger less champion is above the negative
    margin (a test of non-inferiority).

    Args:
        gates: metric and margin.
        comparison: what ``ml.evaluation.intervals`` says of challenger (a) and champion (b); None where there is no
            other champion to beat.
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
    """The challenger's metric is not below the movie mean's by more than the margin.

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
    """The challenger's expected calibration error is within the margin, where the gates have one."""
    error = float(values[_CALIBRATION])
    if gates.calibration_error is None:
        return Finding("calibrated", True, {_CALIBRATION: error, "margin": "none"})
    return Finding(
        "calibrated", error <= gates.calibration_error, {_CALIBRATION: error, "margin": gates.calibration_error}
    )
