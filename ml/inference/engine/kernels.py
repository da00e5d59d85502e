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

from ml.compiled.attention import Sizes, attend, attend_across
from ml.compiled.loops import LANES, compile_loop


@compile_loop
def _gather(rows: np.ndarray, table: np.ndarray, out: np.ndarray) -> None:
    """``out[c, g, f, b] = table[rows[g, f, b], c]`` for rows [G, F, L], unsigned, and table [rows, C]."""
    for g in range(rows.shape[0]):
        for f in range(rows.shape[1]):
            for c in range(table.shape[1]):
                for b in range(LANES):
                    out[c, g, f, b] = table[rows[g, f, b], c]


@compile_loop
def _embed_numbers(numbers: np.ndarray, slopes: np.ndarray, offsets: np.ndarray, out: np.ndarray) -> None:
    """``out[c, g, F + s, b] = numbers[g, s, b] slopes[s, c] + offsets[s, c]``; F tokens stand before the S numbers."""
    first = out.shape[2] - numbers.shape[1]
    for g in range(numbers.shape[0]):
        for s in range(numbers.shape[1]):
            for c in range(slopes.shape[1]):
                for b in range(LANES):
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
def _add_up(hidden: np.ndarray, weights: np.ndarray, out: np.ndarray, sizes: Sizes) -> None:
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
    sizes: Sizes,
) -> None:
    """The layers after the first and the logit of a tile.

    Args:
        kernels: of the layers [layers, heads, 4 D, W], W the width of all heads.
        output: weights of the logit [W, F].
        spaces: hidden states, work space [2, W, G F L]; the first layer's output is in the first half.
        projected: work space [4 D, G F L].
        scores: work space [2, F + 1, L].
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
            attend(projected.reshape(-1), scores, hidden, (groups, fields, head_dim))
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
        scores = np.empty(2 * (fields + 1) * LANES, np.float32)
        for tile in range(len(rows)):
            for head in range(heads):
                tokens = projected.reshape(4 * head_dim, groups, fields, LANES)
                _gather(rows[tile], tables[head], tokens)
                _embed_numbers(numbers[tile], slopes[head], offsets[head], tokens)
                hidden = spaces[0, head * head_dim : (head + 1) * head_dim].reshape(-1)
                attend(projected.reshape(-1), scores, hidden, (groups, fields, head_dim))
            _finish(kernels, output, spaces, projected, scores, logits[tile], (groups, fields, head_dim))

    return score


@cache
def scorer_of_grid(groups: int, row_fields: int, column_fields: int, heads: int, head_dim: int) -> Callable[..., None]:
    """Make the loop over tiles of a grid's columns and its rows.

    Returns:
        A function of the rows' sides [heads, n, (5 D + 2) A] and the columns' [tiles, heads, G (5 D + 2) M L] (see
        ``attend_across``), the further layers' ``kernels`` and ``output`` (see ``_finish``), fields of rows first,
        and logits [tiles, n, G L], which it sets.
    """
    fields = row_fields + column_fields
    size = groups * fields * LANES

    @compile_loop
    def score(
        rows: np.ndarray, columns: np.ndarray, kernels: np.ndarray, output: np.ndarray, logits: np.ndarray
    ) -> None:
        spaces = np.empty((2, heads * head_dim, size), np.float32)
        projected = np.empty((4 * head_dim, size), np.float32)
        scores = np.empty(2 * (fields + 1) * LANES, np.float32)
        for tile in range(len(columns)):
            for row in range(rows.shape[1]):
                for head in range(heads):
                    hidden = spaces[0, head * head_dim : (head + 1) * head_dim].reshape(-1)
                    sizes = (groups, row_fields, column_fields, head_dim)
                    attend_across(rows[head, row], columns[tile, head], scores, hidden, sizes)
                _finish(kernels, output, spaces, projected, scores, logits[tile, row], (groups, fields, head_dim))

    return score
