"""Whether probabilities are shares: of the rows given 0.7, do seven in ten turn out positive?"""

import numpy as np
import pandas as pd


def reliability(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> pd.DataFrame:
    """Mean probability and share of positives of the rows in equal-width bins of the probability.

    Args:
        labels: [rows], 0 or 1.
        probabilities: [rows] float, of a 1.
        bins: number of bins from 0 to 1. A bin holds its lower bound, and the last one 1.0 as well.

    Returns:
        One row a bin with rows in it, by rising probability: low, high (float64, the bounds), rows (int64),
        mean_probability, share_positive (float64).

    Raises:
        ValueError: a probability that is NaN or outside [0, 1], or labels and probabilities of different lengths.
    """
    if len(labels) != len(probabilities):
        raise ValueError(f"got {len(labels)} labels for {len(probabilities)} probabilities")
    values = np.asarray(probabilities, dtype=np.float64)
    outside = ~((values >= 0) & (values <= 1))  # NaN among them
    if outside.any():
        raise ValueError(f"probabilities must be from 0 to 1, got {values[outside][0]}")
    edges = np.arange(bins + 1) / bins  # unlike those of linspace, equal to the decimal fractions
    found = np.minimum(np.searchsorted(edges, values, side="right") - 1, bins - 1)
    frame = pd.DataFrame({"bin": found, "probability": values, "label": np.asarray(labels, dtype=np.float64)})
    table = frame.groupby("bin").agg(
        rows=("label", "size"), mean_probability=("probability", "mean"), share_positive=("label", "mean")
    )
    bounds = pd.DataFrame({"low": edges[:-1], "high": edges[1:]})
    return bounds.join(table, how="inner").reset_index(drop=True)


def expected_calibration_error(labels: np.ndarray, probabilities: np.ndarray, bins: int = 10) -> float:
    """Mean over rows of ``|mean_probability - share_positive|`` of the row's bin; arguments as for ``reliability``.

    From 0 (in every bin the probabilities are the shares) to 1 (Naeini et al., AAAI 2015; Guo et al., ICML 2017).

    Raises:
        ValueError: as ``reliability``.
    """
    table = reliability(labels, probabilities, bins)
    gaps = (table["mean_probability"] - table["share_positive"]).abs()
    return float((gaps * table["rows"] / table["rows"].sum()).sum())
