"""Compiled loops of the exact scorer.

Arrays are laid out with the pairs last, so that each innermost loop runs over neighbouring pairs and becomes vector
instructions. Shapes: F fields, D columns of a head, B pairs of a tile.
"""

import numba
import numpy as np

_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOWEST = np.float32(-87.0)  # exp of less is below float32's normal range

_compile = numba.njit(nogil=True, fastmath={"contract", "nsz", "arcp"}, cache=True, error_model="numpy")


@_compile
def gather(rows: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    """``out[c, f, b] = table[rows[f, b], c]`` for rows [F, B] and table [rows, C]."""
    for f in range(rows.shape[0]):
        for c in range(table.shape[1]):
            for b in range(rows.shape[1]):
                out[c, f, b] = table[rows[f, b], c]


@_compile
def attend(projected: np.ndarray, head_dim: int, scale: float, scores: np.ndarray, out: np.ndarray) -> None:
    """One interacting layer after its projections: ``out = ReLU(softmax(scale * Q K^T) V + R)``, head by head.

    Args:
        projected: [4, heads * D, F, B] float32: queries, keys, values, residuals.
        head_dim: D, a multiple of 4.
        scale: of the scores.
        scores: [F, B] float32, work space.
        out: [heads * D, F, B] float32.
    """
    queries, keys, values, residuals = projected[0], projected[1], projected[2], projected[3]
    fields, pairs = out.shape[1], out.shape[2]
    for head in range(out.shape[0] // head_dim):
        first = head * head_dim
        for i in range(fields):
            for j in range(fields):
                for b in range(pairs):
                    scores[j, b] = 0
                for c in range(first, first + head_dim, 4):
                    for b in range(pairs):
                        scores[j, b] += (
                            queries[c, i, b] * keys[c, j, b]
                            + queries[c + 1, i, b] * keys[c + 1, j, b]
                            + queries[c + 2, i, b] * keys[c + 2, j, b]
                            + queries[c + 3, i, b] * keys[c + 3, j, b]
                        )
            softmax(scores, scale)
            for c in range(first, first + head_dim):
                for b in range(pairs):
                    out[c, i, b] = residuals[c, i, b]
                for j in range(0, fields - 1, 2):
                    for b in range(pairs):
                        out[c, i, b] += scores[j, b] * values[c, j, b] + scores[j + 1, b] * values[c, j + 1, b]
                if fields % 2:
                    for b in range(pairs):
                        out[c, i, b] += scores[fields - 1, b] * values[c, fields - 1, b]
                for b in range(pairs):
                    out[c, i, b] = max(out[c, i, b], np.float32(0))


@_compile
def softmax(scores: np.ndarray, scale: float) -> None:
    """Softmax of ``scale * scores`` over the first axis of [F, B], in place."""
    fields, pairs = scores.shape
    highest = np.empty(pairs, np.float32)
    total = np.zeros(pairs, np.float32)
    factor = np.float32(scale)
    for b in range(pairs):
        highest[b] = scores[0, b]
    for j in range(1, fields):
        for b in range(pairs):
            highest[b] = max(highest[b], scores[j, b])
    for j in range(fields):
        for b in range(pairs):
            x = max((scores[j, b] - highest[b]) * factor, _LOWEST)
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
