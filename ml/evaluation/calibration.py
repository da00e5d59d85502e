"""Measure calibration: of the rows with probability 0.7, are seven in ten positive?"""

import numpy as np
import pandas as pd


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> pd.DataFrame:
    """Compute mean probability and share of positives in equal-width bins of the probability.

    Args:
        labels: [rows], 0 or 1.
        probabilities: float [rows], probability of label 1.
        bins: number of bins from 0 to 1. A bin includes its lower bound; the last bin also includes 1.0.

    Returns:
        One row per non-empty bin, by increasing probability. Columns: low, high (float64, the bounds), rows (int64),
        mean_probability, share_positive (float64).

    Raises:
        ValueError: a probability is NaN or outside [0, 1], or labels and probabilities have different lengths.
    """
    if len(labels) != len(probabilities):
        raise ValueError(f"got {len(labels)} labels for {len(probabilities)} probabilities")
    values = np.asarray(probabilities, dtype=np.float64)
    outside = ~((values >= 0) & (values <= 1))  # true for NaN too
    if outside.any():
        raise ValueError(f"probabilities must be from 0 to 1, got {values[outside][0]}")
    edges = np.arange(bins + 1) / bins  # equal to the decimal fractions, unlike linspace
    found = np.minimum(np.searchsorted(edges, values, side="right") - 1, bins - 1)
    frame = pd.DataFrame({"bin": found, "probability": values, "label": np.asarray(labels, dtype=np.float64)})
    table = frame.groupby("bin").agg(
        rows=("label", "size"), mean_probability=("probability", "mean"), share_positive=("label", "mean")
    )
    bounds = pd.DataFrame({"low": edges[:-1], "high": edges[1:]})
    return bounds.join(table, how="inner").reset_index(drop=True)


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> float:
    """Compute the expected calibration error: the mean over rows of the calibration gap of the row's bin.

    The gap of a bin is ``|mean_probability - share_positive|`` (Naeini et al., AAAI 2015; Guo et al., ICML 2017).

    Args:
        labels: see ``reliability``.
        probabilities: see ``reliability``.
        bins: see ``reliability``.

    Returns:
        From 0 (in every bin the mean probability equals the share of positives) to 1.

    Raises:
        ValueError: as ``reliability``.
    """
    table = reliability(labels, probabilities, bins)
    gaps = (table["mean_probability"] - table["share_positive"]).abs()
    return float((gaps * table["rows"] / table["rows"].sum()).sum())
