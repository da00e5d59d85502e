"""Compiled loops of self-attention.

They are called by the loops of ``ml.inference.engine.kernels``, whose compiled code on disk is stale when this package
changes (see ``loops``).

Sizes are known at compile time, and arrays are flat whatever their stated shape, so that loops unroll and addresses are
constants. Shapes: G groups of a tile, F fields, D columns of a head, L lanes. Softmax is to base 2: the queries include
the factor log2 e.
"""

import numpy as np

from ml.compiled.loops import LANES, compile_loop, exp2

Sizes = tuple[int, int, int]
_UNROLLED = 12  # steps of a loop that LLVM unrolls for certain, with four sums in each


@compile_loop
def _softmax(scores: np.ndarray, fields: int) -> None:
    """Scores [F + 1, L], flat, to ``2^(score - highest)`` in place, and the last row to the inverse of their sum."""
    for b in range(LANES):
        highest = scores[b]
        for j in range(1, fields):
            highest = max(highest, scores[j * LANES + b])
        for j in range(fields):
            scores[j * LANES + b] -= highest
    for each in range(fields * LANES):  # one loop becomes vector instructions for any number of fields
        scores[each] = exp2(scores[each])
    for b in range(LANES):
        total = np.float32(0)
        for j in range(fields):
            total += scores[j * LANES + b]
        scores[fields * LANES + b] = np.float32(1) / total


@compile_loop
def _weigh(scores: np.ndarray, others: int, side: np.ndarray, tops: int, masses: int, step: int) -> None:
    """The same with a side's own fields in the sum: their highest score at ``tops``, their sum at ``masses``.

    Of scores [others + 2, L], flat, the last two rows become the factor of the side's own sums and the inverse of the
    whole sum.
    """
    for b in range(LANES):
        before = side[tops + step * b]
        highest = before
        for j in range(others):
            highest = max(highest, scores[j * LANES + b])
        factor = exp2(before - highest)
        total = side[masses + step * b] * factor
        for j in range(others):
            power = exp2(scores[j * LANES + b] - highest)
            scores[j * LANES + b] = power
            total += power
        scores[others * LANES + b] = factor
        scores[(others + 1) * LANES + b] = np.float32(1) / total


@compile_loop
def attend(projected: np.ndarray, scores: np.ndarray, out: np.ndarray, sizes: Sizes) -> None:
    """An interacting layer after its projections: sets ``out`` to ``ReLU(softmax(Q K^T) V + R)`` of one head.

    Two fields by two fields, and then two fields by two columns, are computed at a time, so that each number that is
    loaded is used twice. A last one without a neighbor is computed with the one before it, once more.

    Args:
        projected: queries, keys, values and residuals [4, D, G, F, L].
        scores: work space [2, F + 1, L].
        out: [D, G, F, L].
        sizes: G, F, D.
    """
    groups, fields, head_dim = sizes
    group = fields * LANES
    column = groups * group
    keys, values, residuals = head_dim * column, 2 * head_dim * column, 3 * head_dim * column
    other = (fields + 1) * LANES  # where the scores of the second field are
    step = min(fields - 1, 1) * LANES  # to the second field
    beside = min(head_dim - 1, 1) * column  # to the second column
    for first in range(0, column, group):
        for pair in range(0, group, 2 * LANES):
            i = first + min(pair, group - LANES - step)
            for near in range(0, group, 2 * LANES):
                j = min(near, group - LANES - step)
                key = keys + first + j
                for b in range(LANES):
                    s00 = s01 = s10 = s11 = np.float32(0)
                    for c in range(head_dim):
                        q0, q1 = projected[c * column + i + b], projected[c * column + i + step + b]
                        k0, k1 = projected[key + c * column + b], projected[key + c * column + step + b]
                        s00 += q0 * k0
                        s01 += q0 * k1
                        s10 += q1 * k0
                        s11 += q1 * k1
                    scores[j + b], scores[j + step + b] = s00, s01
                    scores[other + j + b], scores[other + j + step + b] = s10, s11
            _softmax(scores[:other], fields)
            _softmax(scores[other:], fields)
            for pair_of_columns in range(0, column * head_dim, 2 * column):
                c0 = min(pair_of_columns, (head_dim - 1) * column - beside)
                v, r, o = values + c0 + first, residuals + c0 + i, c0 + i
                for b in range(LANES):
                    t00 = t01 = t10 = t11 = np.float32(0)
                    # Only short loops are unrolled, and only then does the one over b become vector instructions.
                    for j in range(min(_UNROLLED, fields)):
                        s0, s1 = scores[j * LANES + b], scores[other + j * LANES + b]
                        v0, v1 = projected[v + j * LANES + b], projected[v + beside + j * LANES + b]
                        t00 += s0 * v0
                        t01 += s0 * v1
                        t10 += s1 * v0
                        t11 += s1 * v1
                    for j in range(_UNROLLED, min(2 * _UNROLLED, fields)):
                        s0, s1 = scores[j * LANES + b], scores[other + j * LANES + b]
                        v0, v1 = projected[v + j * LANES + b], projected[v + beside + j * LANES + b]
                        t00 += s0 * v0
                        t01 += s0 * v1
                        t10 += s1 * v0
                        t11 += s1 * v1
                    for j in range(2 * _UNROLLED, fields):
                        s0, s1 = scores[j * LANES + b], scores[other + j * LANES + b]
                        v0, v1 = projected[v + j * LANES + b], projected[v + beside + j * LANES + b]
                        t00 += s0 * v0
                        t01 += s0 * v1
                        t10 += s1 * v0
                        t11 += s1 * v1
                    inverse0, inverse1 = scores[fields * LANES + b], scores[other + fields * LANES + b]
                    t00 = t00 * inverse0 + projected[r + b]
                    t01 = t01 * inverse0 + projected[r + beside + b]
                    t10 = t10 * inverse1 + projected[r + step + b]
                    t11 = t11 * inverse1 + projected[r + beside + step + b]
                    out[o + b], out[o + beside + b] = max(t00, np.float32(0)), max(t01, np.float32(0))
                    out[o + step + b], out[o + beside + step + b] = max(t10, np.float32(0)), max(t11, np.float32(0))


@compile_loop
def attend_across(
    row: np.ndarray,
    columns: np.ndarray,
    scores: np.ndarray,
    out: np.ndarray,
    sizes: tuple[int, int, int, int],
) -> None:
    """The same for the fields of one row and of many columns of a grid, such as a user and all movies.

    The attention inside a side is the same along the whole grid. So it is an argument, and only the attention between
    the sides is computed here (the softmax is combined as in Milakov and Gimelshein 2018, alg. 3).
    A side has for each of its S fields 5 D + 2 numbers, [5 D + 2, S]: query, key, value, residual, the sum of the
    side's values weighted by ``2^(score - highest)``, ``highest`` and the sum of these weights.

    Args:
        row: [5 D + 2, A].
        columns: [G, 5 D + 2, M, L].
        scores: work space [max(A, M) + 2, L].
        out: [D, G, A + M, L], the row's fields first.
        sizes: G, A, M, D.
    """
    groups, row_fields, column_fields, head_dim = sizes
    width, side = column_fields * LANES, (5 * head_dim + 2) * column_fields * LANES
    line = (row_fields + column_fields) * LANES
    column = groups * line
    key, value, residual, own = head_dim, 2 * head_dim, 3 * head_dim, 4 * head_dim
    top, mass = 5 * head_dim, 5 * head_dim + 1
    for g in range(groups):
        start, target = g * side, g * line
        for i in range(row_fields):
            for j in range(column_fields):
                for b in range(LANES):
                    total = np.float32(0)
                    for c in range(head_dim):
                        total += row[c * row_fields + i] * columns[start + (key + c) * width + j * LANES + b]
                    scores[j * LANES + b] = total
            _weigh(scores, column_fields, row, top * row_fields + i, mass * row_fields + i, 0)
            for c in range(head_dim):
                for b in range(LANES):
                    total = row[(own + c) * row_fields + i] * scores[column_fields * LANES + b]
                    for j in range(column_fields):
                        total += scores[j * LANES + b] * columns[start + (value + c) * width + j * LANES + b]
                    total = total * scores[(column_fields + 1) * LANES + b] + row[(residual + c) * row_fields + i]
                    out[target + c * column + i * LANES + b] = max(total, np.float32(0))
        for i in range(0, width, LANES):
            place = start + i
            for j in range(row_fields):
                for b in range(LANES):
                    total = np.float32(0)
                    for c in range(head_dim):
                        total += row[(key + c) * row_fields + j] * columns[place + c * width + b]
                    scores[j * LANES + b] = total
            _weigh(scores, row_fields, columns, place + top * width, place + mass * width, 1)
            for c in range(head_dim):
                for b in range(LANES):
                    total = columns[place + (own + c) * width + b] * scores[row_fields * LANES + b]
                    for j in range(row_fields):
                        total += scores[j * LANES + b] * row[(value + c) * row_fields + j]
                    total *= scores[(row_fields + 1) * LANES + b]
                    total += columns[place + (residual + c) * width + b]
                    out[target + c * column + row_fields * LANES + i + b] = max(total, np.float32(0))
