"""How attention scores become weights, on any Keras backend."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops


def softmax(scores: Any) -> Any:
    """Return ``exp(scores) / sum(exp(scores))`` over the last axis."""
    return ops.softmax(scores, axis=-1)


def entmax(scores: Any) -> Any:
    """Return the 1.5-entmax of scores over the last axis: weights of sum 1, those of low scores exactly 0.

    ``max(scores / 2 - threshold, 0) ** 2`` with the threshold at which the sum is 1. Peters et al., "Sparse
    Sequence-to-Sequence Models", ACL 2019. It is continuous, unlike a choice of the k highest scores: a rounding
    error of a score never changes a weight by more than a rounding error.

    Args:
        scores: float [..., n]; -inf for what must have the weight 0, except for all n.

    Returns:
        Weights [..., n].
    """
    halves = (scores - ops.stop_gradient(ops.max(scores, axis=-1, keepdims=True))) / 2
    # Newton's method for the sum of squares, which is convex in the threshold: from below, it never passes the root.
    # At -1, the highest alone makes the sum 1 or more; the root is at most -1 / sqrt(n).
    fixed = ops.stop_gradient(halves)
    threshold = ops.full_like(fixed[..., :1], -1)
    for _ in range(_steps(scores.shape[-1])):
        above = ops.relu(fixed - threshold)
        threshold = threshold + _correction(above, above)
    # Of the last step alone, from the root to itself, the gradient is taken: that of the root as a function of scores.
    above = ops.relu(halves - threshold)
    threshold = threshold + _correction(above, ops.stop_gradient(above))
    return ops.square(ops.relu(halves - threshold))


def _correction(above: Any, slope: Any) -> Any:
    """Return Newton's step of the threshold, [..., 1]."""
    excess = ops.sum(ops.square(above), axis=-1, keepdims=True) - 1
    return excess / (2 * ops.sum(slope, axis=-1, keepdims=True))


def _steps(count: int) -> int:
    """Return how many steps reach float32's precision, with the last one; the worst case is that of equal scores."""
    return max(count.bit_length(), 4)


# How scores become weights, by the setting's name.
NORMALIZATIONS: Mapping[str, Callable[[Any], Any]] = {"softmax": softmax, "entmax": entmax}


def same_side(sides: Sequence[str]) -> np.ndarray:
    """Return which features are of the same side, bool [features, features].

    Args:
        sides: of each feature.
    """
    names = np.array(sides)
    return names[:, None] == names
