"""Compiled loops of the exact scorer.

Arrays are laid out with the pairs last, so that each innermost loop runs over neighbouring pairs and becomes vector
instructions. Shapes: F fields, D columns of a head, B pairs of a tile.
"""

from collections.abc import Callable
from functools import cache

import numba
import numpy as np

_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOWEST = np.float32(-87.0)  # exp of less is below float32's normal range

_compile = numba.njit(nogil=True, fastmath={"contract", "nsz", "arcp"}, cache=True, error_model="numpy")


@_compile
def gather(rows: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    """``out[c, f, b] = table[rows[f, b], c]`` for rows [F, B], unsigned, and table [rows, C]."""
    for f in range(rows.shape[0]):
        for c in range(table.shape[1]):
            for b in range(rows.shape[1]):
                out[c, f, b] = table[rows[f, b], c]


@_compile
def gather_sum(rows: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    """``out[b] = sum over f of table[rows[f, b]]`` for rows [F, B], unsigned, table [rows, C] and out [B, C]."""
    for b in range(rows.shape[1]):
        for c in range(table.shape[1]):
            out[b, c] = 0
        for f in range(rows.shape[0]):
            for c in range(table.shape[1]):
                out[b, c] += table[rows[f, b], c]


@_compile
def softmax(scores: np.ndarray, factor: float) -> None:
    """Softmax of ``factor * scores`` over the first axis of [F, B], in place."""
    fields, pairs = scores.shape
    highest = np.empty(pairs, np.float32)
    total = np.zeros(pairs, np.float32)
    scale = np.float32(factor)
    for b in range(pairs):
        highest[b] = scores[0, b]
    for j in range(1, fields):
        for b in range(pairs):
            highest[b] = max(highest[b], scores[j, b])
    for j in range(fields):
        for b in range(pairs):
            x = max((scores[j, b] - highest[b]) * scale, _LOWEST)
            # exp(x) = 2^n exp(r), r = x - n ln 2, by a polynomial (Cephes expf), in place of a call for each number.
            n = np.floor(x * _LOG2E + np.float32(0.5))
            r = x - n * _LN2_HIGH - n * _LN2_LOW
            p = np.float32(1.9875691500e-4)
            p = p * r + np.float32(1.3981999507e-3)
            p = p * r + np.float32(8.3334519073e-3)
            p = p * r + np.float32(4.1665795894e-2)
            p = p * r + np.float32(1.6666665459e-1)
            p = p * r + np.float32(5.0000001201e-1)
            p = p * r * r + r + np.float32(1)
            power = np.int32((np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
            scores[j, b] = p * power
            total[b] += scores[j, b]
    for b in range(pairs):
        total[b] = np.float32(1) / total[b]
    for j in range(fields):
        for b in range(pairs):
            scores[j, b] *= total[b]


@cache
def attention(fields: int, head_dim: int) -> Callable[[np.ndarray, float, np.ndarray, np.ndarray], None]:
    """The loops of an interacting layer after its projections; sizes known at compile time let them unroll.

    Returns:
        A function of one head's ``projected`` [4, D, F, B] float32 (queries, keys, values, residuals), a factor of the
        scores, ``scores`` [F, B] float32 (work space) and ``out`` [D, F, B] float32, which it sets to
        ``ReLU(softmax(factor * Q K^T) V + R)``.
    """

    @_compile
    def attend(projected: np.ndarray, factor: float, scores: np.ndarray, out: np.ndarray) -> None:
        queries, keys, values, residuals = projected[0], projected[1], projected[2], projected[3]
        pairs = out.shape[2]
        for i in range(fields):
            for j in range(fields):
                for b in range(pairs):
                    total = np.float32(0)
                    for c in range(head_dim):
                        total += queries[c, i, b] * keys[c, j, b]
                    scores[j, b] = total
            softmax(scores, factor)
            for c in range(head_dim):
                for b in range(pairs):
                    total = residuals[c, i, b]
                    for j in range(fields):
                        total += scores[j, b] * values[c, j, b]
                    out[c, i, b] = max(total, np.float32(0))

    return attend
