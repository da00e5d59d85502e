"""Metrics of single rows: how well scores separate likes, how well probabilities fit them."""

import numpy as np
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve over all rows.

    Args:
        labels: [rows], 0 or 1.
        scores: [rows], the higher the likelier.

    Returns:
        From 0 to 1; NaN where all labels are the same, or there are none.
    """
    return float(roc_auc_score(labels, scores)) if len(np.unique(labels)) == 2 else np.nan


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean negative log likelihood in nats; labels 0 or 1 [rows], probabilities of a 1 [rows]; NaN without rows."""
    if not len(labels):
        return np.nan
    return float(sklearn_log_loss(labels, np.asarray(probabilities, dtype=np.float64), labels=[0, 1]))
