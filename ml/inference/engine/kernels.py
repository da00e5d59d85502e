"""Compiled loops of the exact scorer.

Pairs are processed in groups of ``LANES``, which are adjacent in memory, so that each innermost loop becomes vector
instructions and the keys and values of a group fit a level-1 cache. Sizes are known at compile time, and arrays are
flat whatever their stated shape, so that loops unroll and addresses are constants.

Shapes: G groups of a tile, F fields, D columns of a head, L lanes. Softmax is to base 2: the queries include the
factor log2 e.
"""

from collections.abc import Callable
from functools import cache

import numpy as np

from ml.compiled.loops import LANES, compile_loop, exp2

_Sizes = tuple[int, int, int]


@compile_loop
def _gather(rows: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    """``out[c, g, f, b] = table[rows[g, f, b], c]`` for rows [G, F, L], unsigned, and table [rows, C]."""
    for g in range(rows.shape[0]):
        for f in range(rows.shape[1]):
            for c in range(table.shape[1]):
                for b in range(rows.shape[2]):
                    out[c, g, f, b] = table[rows[g, f, b], c]


@compile_loop
def _embed_numbers(numbers: np.ndarray, slopes: np.ndarray, offsets: np.ndarray, out: np.ndarray) -> None:
    """``out[c, g, F + s, b] = numbers[g, s, b] slopes[s, c] + offsets[s, c]``; F tokens stand before the S numbers."""
    first = out.shape[2] - numbers.shape[1]
    for g in range(numbers.shape[0]):
        for s in range(numbers.shape[1]):
            for c in range(slopes.shape[1]):
                for b in range(numbers.shape[2]):
                    out[c, g, first + s, b] = numbers[g, s, b] * slopes[s, c] + offsets[s, c]


@compile_loop
def gather_sum(rows: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    """``out[b] = sum over f of table[rows[b, f]]`` for rows [B, F], unsigned, table [rows, C] and out [B, C]."""
    for b in range(rows.shape[0]):
        for c in range(table.shape[1]):
            out[b, c] = 0
        for f in range(rows.shape[1]):
            for c in range(table.shape[1]):
                out[b, c] += table[rows[b, f], c]


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
def _attend(projected: np.ndarray, scores: np.ndarray, out: np.ndarray, sizes: _Sizes) -> None:
    """An interacting layer after its projections: sets ``out`` to ``ReLU(softmax(Q K^T) V + R)`` of one head.

    Args:
        projected: queries, keys, values and residuals [4, D, G, F, L].
        scores: work space [F + 1, L].
        out: [D, G, F, L].
        sizes: G, F, D.
    """
    groups, fields, head_dim = sizes
    group = fields * LANES
    column = groups * group
    keys, values, residuals = head_dim * column, 2 * head_dim * column, 3 * head_dim * column
    for first in range(0, column, group):
        for i in range(first, first + group, LANES):
            for j in range(fields):
                for b in range(LANES):
                    total = np.float32(0)
                    for c in range(head_dim):
                        total += projected[c * column + i + b] * projected[keys + c * column + first + j * LANES + b]
                    scores[j * LANES + b] = total
            _softmax(scores, fields)
            for c in range(head_dim):
                for b in range(LANES):
                    total = np.float32(0)
                    for j in range(fields):
                        total += scores[j * LANES + b] * projected[values + c * column + first + j * LANES + b]
                    total = total * scores[fields * LANES + b] + projected[residuals + c * column + i + b]
                    out[c * column + i + b] = max(total, np.float32(0))


@compile_loop
def _attend_across(
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


@compile_loop
def _add_up(hidden: np.ndarray, weights: np.ndarray, out: np.ndarray, sizes: _Sizes) -> None:
    """``out[g, b] = sum over c, f of weights[c, f] hidden[c, g, f, b]``; sizes are G, F and the columns of hidden."""
    groups, fields, width = sizes
    group = fields * LANES
    column = groups * group
    out[:] = 0
    for first in range(0, column, group):
        for c in range(width):
            for b in range(LANES):
                total = out[first // fields + b]
                for f in range(fields):
                    total += weights[c * fields + f] * hidden[c * column + first + f * LANES + b]
                out[first // fields + b] = total


@compile_loop
def _finish(
    kernels: np.ndarray,
    output: np.ndarray,
    spaces: np.ndarray,
    projected: np.ndarray,
    scores: np.ndarray,
    out: np.ndarray,
    sizes: _Sizes,
) -> None:
    """The layers after the first and the logit of a tile.

    Args:
        kernels: of the layers [layers, heads, 4 D, W], W the width of all heads.
        output: weights of the logit [W, F].
        spaces: hidden states, work space [2, W, G F L]; the first layer's output is in the first half.
        projected: work space [4 D, G F L].
        scores: work space [F + 1, L].
        out: logits [G, L], to be set.
        sizes: G, F, D.
    """
    groups, fields, head_dim = sizes
    layers, heads = kernels.shape[0], kernels.shape[1]
    for layer in range(layers):
        before, after = spaces[layer % 2], spaces[1 - layer % 2]
        for head in range(heads):
            np.dot(kernels[layer, head], before, projected)
            hidden = after[head * head_dim : (head + 1) * head_dim].reshape(-1)
            _attend(projected.reshape(-1), scores, hidden, (groups, fields, head_dim))
    _add_up(spaces[layers % 2].reshape(-1), output.reshape(-1), out, (groups, fields, heads * head_dim))


@cache
def scorer_of_rows(groups: int, fields: int, heads: int, head_dim: int) -> Callable[..., None]:
    """Make the loop over tiles of any rows; ``fields`` counts the numbers too.

    Returns:
        A function of table rows [tiles, G, F - S, L] unsigned, numbers [tiles, G, S, L], the first layer's tables
        [heads, indices, 4 D] and its projections of the numbers, slopes and offsets [heads, S, 4 D], the ``kernels``
        and ``output`` of the layers after it (see ``_finish``) and logits [tiles, G L], which it sets.
    """
    size = groups * fields * LANES

    @compile_loop
    def score(
        rows: np.ndarray,
        numbers: np.ndarray,
        tables: np.ndarray,
        slopes: np.ndarray,
        offsets: np.ndarray,
        kernels: np.ndarray,
        output: np.ndarray,
        logits: np.ndarray,
    ) -> None:
        spaces = np.empty((2, heads * head_dim, size), np.float32)
        projected = np.empty((4 * head_dim, size), np.float32)
        scores = np.empty((fields + 1) * LANES, np.float32)
        for tile in range(len(rows)):
            for head in range(heads):
                tokens = projected.reshape(4 * head_dim, groups, fields, LANES)
                _gather(rows[tile], tables[head], tokens)
                _embed_numbers(numbers[tile], slopes[head], offsets[head], tokens)
                hidden = spaces[0, head * head_dim : (head + 1) * head_dim].reshape(-1)
                _attend(projected.reshape(-1), scores, hidden, (groups, fields, head_dim))
            _finish(kernels, output, spaces, projected, scores, logits[tile], (groups, fields, head_dim))

    return score


@cache
def scorer_of_grid(groups: int, row_fields: int, column_fields: int, heads: int, head_dim: int) -> Callable[..., None]:
    """Make the loop over a grid's rows at a tile of its columns.

    Returns:
        A function of the rows' sides [heads, n, (5 D + 2) A] and the columns' [heads, G (5 D + 2) M L] (see
        ``_attend_across``), the further layers' ``kernels`` and ``output`` (see ``_finish``), fields of rows first,
        and logits [n, G L], which it sets.
    """
    fields = row_fields + column_fields
    size = groups * fields * LANES

    @compile_loop
    def score(
        rows: np.ndarray, columns: np.ndarray, kernels: np.ndarray, output: np.ndarray, logits: np.ndarray
    ) -> None:
        spaces = np.empty((2, heads * head_dim, size), np.float32)
        projected = np.empty((4 * head_dim, size), np.float32)
        scores = np.empty((fields + 2) * LANES, np.float32)
        for row in range(rows.shape[1]):
            for head in range(heads):
                hidden = spaces[0, head * head_dim : (head + 1) * head_dim].reshape(-1)
                sizes = (groups, row_fields, column_fields, head_dim)
                _attend_across(rows[head, row], columns[head], scores, hidden, sizes)
            _finish(kernels, output, spaces, projected, scores, logits[row], (groups, fields, head_dim))

    return score
