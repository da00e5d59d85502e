"""Predict the logits of all movies from an outline and a few probe movies; steps 1 and 3 of ``shortlist``."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr

_PROBES = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_RIDGE = 1e-4  # of the mean variance of a movie's logits, so that a singular covariance can be solved
_FOLDS = 4
_LEAST_SPREAD = 1e-4  # of all logits' standard deviation; float32 and the ridge leave about as much
_NEAR_TOP = 50  # movies per user on which errors are measured
CAUTION = 2.0  # factor on the measured errors
FEWEST_PROBES = _PROBES[0]
LOWEST = np.finfo(np.float32).min  # above the -inf of movies that must not be listed


@dataclass(frozen=True)
class Prediction:
    """Predicts from the user's taste how a user's row deviates from its outline.

    Attributes:
        centre: mean taste [p].
        mean: mean deviation [movies].
        weights: of a taste's deviations from the centre [p, movies].
        spread: root mean square error of each movie's prediction [movies], in cross-validation.
        error: how much a logit near the top of the sampled users' rows exceeds its prediction at most, in spreads.
        left: movies per user that the search would have to score.
    """

    centre: np.ndarray
    mean: np.ndarray
    weights: np.ndarray
    spread: np.ndarray
    error: float
    left: float

    @classmethod
    def fit(
        cls, tastes: np.ndarray, rows: np.ndarray, outlines: np.ndarray, seen: np.ndarray, length: int
    ) -> "Prediction":
        """Fit on the sampled users, and measure errors by cross-validation; all arrays [sampled, ...]."""
        rest = rows - outlines
        predicted = outlines.copy()
        for fold in range(_FOLDS):
            held = np.arange(len(rows)) % _FOLDS == fold
            centre, mean, weights = _conditional_mean(tastes[~held], rest[~held])
            predicted[held] += mean + (tastes[held] - centre) @ weights
        errors = rows - predicted
        spread = np.sqrt(np.mean(errors**2, axis=0))
        spread = np.maximum(spread, _LEAST_SPREAD * float(rows.std()))
        unseen_rows = np.where(seen, -np.inf, rows)
        predicted[seen] = -np.inf
        near = np.argpartition(np.maximum(unseen_rows, predicted), -min(_NEAR_TOP, rows.shape[1]), axis=1)
        near = near[:, -_NEAR_TOP:]
        error = max(float((np.take_along_axis(errors, near, axis=1) / spread[near]).max()), 1.0)
        bar = last_listed(unseen_rows, length)
        left = np.count_nonzero(predicted + CAUTION * error * spread >= np.maximum(bar, LOWEST)[:, None]) / len(rows)
        return cls(*_conditional_mean(tastes, rest), spread, error, left)

    def deviations(self, tastes: np.ndarray) -> np.ndarray:
        """Predicted rows minus outlines [n, movies] of tastes [n, p]."""
        return self.mean + (tastes - self.centre) @ self.weights


def _conditional_mean(tastes: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean taste, mean row and the weights of a taste's deviations from its mean."""
    centre, mean = tastes.mean(axis=0), rows.mean(axis=0)
    own = tastes - centre
    ridge = _RIDGE * float(own.var()) * len(own) * np.eye(own.shape[1], dtype=np.float32)
    return centre, mean, np.linalg.solve(own.T @ own + ridge, own.T @ (rows - mean)).astype(np.float32)


def best_probes(rows: np.ndarray, outlines: np.ndarray, seen: np.ndarray, length: int) -> np.ndarray:
    """Choose the number of probe movies with the least pairs to score, probes and the rest together."""
    # Pivoting takes in turn the movie that the movies before it predict worst.
    rest = rows - outlines
    _, pivots = qr(rest - rest.mean(axis=0), mode="r", pivoting=True, check_finite=False)
    cost: dict[int, float] = {}
    for count in _PROBES:
        if count > min(len(rows) // 2, rows.shape[1]) or count >= min(cost.values(), default=np.inf):
            break
        cost[count] = count + Prediction.fit(rest[:, pivots[:count]], rows, outlines, seen, length).left
    return pivots[: min(cost, key=lambda count: cost[count])]


def last_listed(logits: np.ndarray, length: int) -> np.ndarray:
    """The ``length``-th largest logit of each row; ``-inf`` where there are fewer."""
    last = max(logits.shape[1] - length, 0)
    bar: np.ndarray = np.partition(logits, last, axis=1)[:, last]
    return bar
