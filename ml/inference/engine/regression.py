"""Predict logits from the collaborative features of pairs; for ``outline``."""

from dataclasses import dataclass

import numpy as np

from ml.compiled.loops import compile_loop

_BENDS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)  # quantiles at which a feature's slope changes
_SLOPES = len(_BENDS)  # known at compile time, so that their loop is unrolled
_RIDGE = 1e-5  # of a term's mean square, so that equal features can be solved
_LEAST_RIDGE = 1e-3  # added to it, for terms that are always zero
_LANES = 64  # pairs at a time in the compiled loop


@dataclass(frozen=True)
class Regression:
    """A logit as a polynomial of degree 2 of a pair's features, plus a piecewise linear function of each.

    Features are standardized, and clipped to the range that was fitted. Without features, the prediction is the mean.

    Attributes:
        scaling: centre and scale of each feature, lowest and highest value after standardization [features, 4].
        constant: [1].
        products: weights of each feature, and of its products with itself and earlier ones [features, 1 + features].
        bends: standardized features at which a slope changes [features, bends].
        slopes: weights of the part of a feature above a bend [features, bends].
    """

    scaling: np.ndarray
    constant: np.ndarray
    products: np.ndarray
    bends: np.ndarray
    slopes: np.ndarray

    @classmethod
    def fit(cls, numbers: np.ndarray, logits: np.ndarray) -> "Regression":
        """Fit by least squares; features float32 [pairs, features], logits float32 [pairs]."""
        count = numbers.shape[1]
        centre, scale = numbers.mean(axis=0), numbers.std(axis=0)
        scale[scale == 0] = 1
        standard = (numbers - centre) / scale
        bends = np.quantile(standard, _BENDS, axis=0).T.astype(np.float32)
        left, right = np.tril_indices(count)
        terms = np.hstack(
            [
                np.ones((len(numbers), 1), np.float32),
                standard,
                standard[:, left] * standard[:, right],
                np.maximum(standard[:, :, None] - bends, 0).reshape(len(numbers), bends.size),
            ]
        )
        gram = (terms.T @ terms).astype(np.float64)
        ridge = np.diag(gram) + _LEAST_RIDGE * len(terms)
        gram[np.diag_indices_from(gram)] += _RIDGE * ridge
        weights = np.linalg.solve(gram, terms.T @ logits).astype(np.float32)
        constant, linear, pairs, slopes = np.split(weights, np.cumsum([1, count, len(left)]))
        products = np.zeros((count, 1 + count), np.float32)
        products[:, 0], products[left, 1 + right] = linear, pairs
        scaling = np.stack([centre, scale, standard.min(axis=0), standard.max(axis=0)], axis=1)
        return cls(scaling, constant, products, bends, slopes.reshape(bends.shape))

    @property
    def features(self) -> int:
        """Number of features."""
        return len(self.scaling)

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """Predicted logits, float32 [n, movies], of features float32 [n, features, movies]."""
        out = np.empty((numbers.shape[0], numbers.shape[2]), np.float32)
        _evaluate(numbers, self.scaling, self.constant, self.products, self.bends, self.slopes, out)
        return out

    def is_beyond(self, numbers: np.ndarray) -> np.ndarray:
        """Whether a feature lies outside the range that was fitted, bool [n, movies]; features as in ``rows``."""
        out = np.zeros((numbers.shape[0], numbers.shape[2]), bool)
        centre, scale, lowest, highest = self.scaling.T
        _mark_beyond(numbers, centre + scale * lowest, centre + scale * highest, out)
        return out


@compile_loop
def _mark_beyond(numbers: np.ndarray, lowest: np.ndarray, highest: np.ndarray, out: np.ndarray) -> None:
    """Set ``out`` where one of a pair's features is below its lowest or above its highest value."""
    for row in range(out.shape[0]):
        for s in range(numbers.shape[1]):
            for b in range(out.shape[1]):
                out[row, b] |= (numbers[row, s, b] < lowest[s]) | (numbers[row, s, b] > highest[s])


@compile_loop
def _standardize(numbers: np.ndarray, row: int, first: int, scaling: np.ndarray, out: np.ndarray) -> None:
    """Standardize and clip the features of a row's pairs, from the first on, as many as ``out`` [features, L] holds."""
    lanes = min(_LANES, numbers.shape[2] - first)
    for s in range(numbers.shape[1]):
        centre, inverse, lowest, highest = scaling[s, 0], np.float32(1) / scaling[s, 1], scaling[s, 2], scaling[s, 3]
        for b in range(lanes):
            out[s, b] = min(max((numbers[row, s, first + b] - centre) * inverse, lowest), highest)


@compile_loop
def _add_feature(
    standard: np.ndarray,
    s: int,
    weights: np.ndarray,
    bends: np.ndarray,
    slopes: np.ndarray,
    factor: np.ndarray,
    total: np.ndarray,
) -> None:
    """Add the terms of feature s: its products with earlier ones and itself, and its slopes above the bends.

    ``factor`` is work space.
    """
    factor[:] = weights[0]
    for t in range(s + 1):
        weight = weights[1 + t]
        for b in range(_LANES):
            factor[b] += weight * standard[t, b]
    for b in range(_LANES):
        own = standard[s, b]
        more = total[b] + factor[b] * own
        for k in range(_SLOPES):
            more += slopes[k] * max(own - bends[k], np.float32(0))
        total[b] = more


@compile_loop
def _evaluate(
    numbers: np.ndarray,
    scaling: np.ndarray,
    constant: np.ndarray,
    products: np.ndarray,
    bends: np.ndarray,
    slopes: np.ndarray,
    out: np.ndarray,
) -> None:
    """``Regression.rows`` for a few pairs at a time, whose features stay in the level-1 cache."""
    features = numbers.shape[1]
    standard = np.zeros((features, _LANES), np.float32)
    factor, total = np.empty(_LANES, np.float32), np.empty(_LANES, np.float32)
    for row in range(out.shape[0]):
        for first in range(0, out.shape[1], _LANES):
            _standardize(numbers, row, first, scaling, standard)
            total[:] = constant[0]
            for s in range(features):
                _add_feature(standard, s, products[s], bends[s], slopes[s], factor, total)
            for b in range(min(_LANES, out.shape[1] - first)):
                out[row, first + b] = total[b]
