"""Compute classification metrics over rows: AUC and log loss."""

import numpy as np
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Compute the area under the ROC curve over all rows.

    Args:
        labels: [rows], 0 or 1.
        scores: [rows], higher means more likely.

    Returns:
        From 0 to 1; NaN if all labels are the same, or there are none.
    """
    return float(roc_auc_score(labels, scores)) if len(np.unique(labels)) == 2 else np.nan


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Compute the mean negative log likelihood.

    Args:
        labels: [rows], 0 or 1.
        probabilities: [rows], probability of label 1.

    Returns:
        The loss in nats; NaN without rows.
    """
    if not len(labels):
        return np.nan
    return float(sklearn_log_loss(labels, np.asarray(probabilities, dtype=np.float64), labels=[0, 1]))
