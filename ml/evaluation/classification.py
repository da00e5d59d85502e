"""Metrics of single rows: how well scores separate likes, how well probabilities fit them."""

import numpy as np
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import roc_auc_score


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Area under the ROC curve over all rows; labels 0 or 1 [rows], scores [rows], the higher the likelier."""
    return float(roc_auc_score(labels, scores))


def log_loss(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean negative log likelihood in nats; labels 0 or 1 [rows], probabilities of a 1 [rows]."""
    return float(sklearn_log_loss(labels, np.asarray(probabilities, dtype=np.float64)))
