"""Predict logits from the collaborative features of pairs; for ``outline``."""

from dataclasses import dataclass

import numpy as np

from ml.inference.engine.compiled import compile_loops

_BENDS = (0.02, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)  # quantiles at which a feature's slope changes
_RIDGE = 1e-5  # of a term's mean square, so that equal features can be solved
_LEAST_RIDGE = 1e-3  # added to it, for terms that are always zero
_LANES = 64  # pairs at a time in the compiled loop


@dataclass(frozen=True)
class Regression:
    """A logit as a polynomial of degree 2 of a pair's features, plus a piecewise linear function of each.

    Features are standardized, and clipped to the range that was fitted. Without features, the prediction is the mean.

    Attributes:
        centre, scale: of each feature [features].
        lowest, highest: of each standardized feature [features].
        bends: standardized features at which a slope changes [features, bends].
        constant: [1].
        linear: weights of the features [features].
        products: weights of products of two features [features, features], lower triangle.
        slopes: weights of the part of a feature above a bend [features, bends].
    """

    centre: np.ndarray
    scale: np.ndarray
    lowest: np.ndarray
    highest: np.ndarray
    bends: np.ndarray
    constant: np.ndarray
    linear: np.ndarray
    products: np.ndarray
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
        products = np.zeros((count, count), np.float32)
        products[left, right] = pairs
        lowest, highest = standard.min(axis=0), standard.max(axis=0)
        return cls(centre, scale, lowest, highest, bends, constant, linear, products, slopes.reshape(bends.shape))

    @property
    def features(self) -> int:
        """Number of features."""
        return len(self.linear)

    def rows(self, numbers: np.ndarray) -> np.ndarray:
        """Predicted logits, float32 [n, movies], of features float32 [n, features, movies]."""
        out = np.empty((numbers.shape[0], numbers.shape[2]), np.float32)
        shape = (self.centre, 1 / self.scale, self.lowest, self.highest)
        _evaluate(numbers, *shape, self.bends, self.constant, self.linear, self.products, self.slopes, out)
        return out


@compile_loops
def _evaluate(
    numbers: np.ndarray,
    centre: np.ndarray,
    inverse: np.ndarray,
    lowest: np.ndarray,
    highest: np.ndarray,
    bends: np.ndarray,
    constant: np.ndarray,
    linear: np.ndarray,
    products: np.ndarray,
    slopes: np.ndarray,
    out: np.ndarray,
) -> None:
    """``Regression.rows`` for a few pairs at a time, whose features stay in the level-1 cache."""
    features = numbers.shape[1]
    standard = np.zeros((features, _LANES), np.float32)
    factor, total = np.empty(_LANES, np.float32), np.empty(_LANES, np.float32)
    for row in range(out.shape[0]):
        for first in range(0, out.shape[1], _LANES):
            lanes = min(_LANES, out.shape[1] - first)
            total[:] = constant[0]
            for s in range(features):
                for b in range(lanes):
                    x = (numbers[row, s, first + b] - centre[s]) * inverse[s]
                    standard[s, b] = min(max(x, lowest[s]), highest[s])
                factor[:] = linear[s]
                for t in range(s + 1):
                    weight = products[s, t]
                    for b in range(_LANES):
                        factor[b] += weight * standard[t, b]
                for b in range(_LANES):
                    total[b] += factor[b] * standard[s, b]
                for k in range(bends.shape[1]):
                    bend, slope = bends[s, k], slopes[s, k]
                    for b in range(_LANES):
                        total[b] += slope * max(standard[s, b] - bend, np.float32(0))
            for b in range(lanes):
                out[row, first + b] = total[b]
