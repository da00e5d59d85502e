"""Compiled loops of matrix factorization and EASE.

Each call computes in one thread and without Python's lock.
"""

import numpy as np

from ml.compiled.loops import compile_loop

_GROUP = 8  # ratings per pass over a Gram matrix, which then stays in a level-1 cache


@compile_loop
def solve_rows(
    starts: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    design: np.ndarray,
    ridges: np.ndarray,
    out: np.ndarray,
) -> None:
    """Set ``out[r]`` to the weights of a ridge regression of a sparse row's values on the rows of ``design``.

    ``out[r] = inv(X' X + ridges[r] I) X' y``, by Cholesky's method, for the row's cells: their values y and the rows X
    of ``design`` at their columns.

    Args:
        starts: int [rows + 1], where each row's cells begin and end: ``indptr`` of a SciPy CSR array.
        columns: int [cells], below ``len(design)``.
        values: float64 [cells].
        design: float64 [columns, W].
        ridges: positive, float64 [rows].
        out: float64 [rows, W].
    """
    width = design.shape[1]
    gram, right, group = np.empty((width, width)), np.empty(width), np.empty((_GROUP, width))
    for r in range(len(starts) - 1):
        gram[:] = 0
        right[:] = 0
        for first in range(starts[r], starts[r + 1], _GROUP):
            _take_rows(columns, values, first, min(first + _GROUP, starts[r + 1]), design, group, right)
            _add_products(group, gram)
        for i in range(width):
            gram[i, i] += ridges[r]
        _solve(gram, right, out[r])


@compile_loop
def _take_rows(
    columns: np.ndarray,
    values: np.ndarray,
    first: int,
    stop: int,
    design: np.ndarray,
    group: np.ndarray,
    right: np.ndarray,
) -> None:
    """Set ``group`` [_GROUP, W] to the cells' rows of ``design``, then zeros; add rows times values to ``right``."""
    for k in range(stop - first):
        column, value = columns[first + k], values[first + k]
        for j in range(design.shape[1]):
            group[k, j] = design[column, j]
            right[j] += value * design[column, j]
    for k in range(stop - first, _GROUP):
        for j in range(design.shape[1]):
            group[k, j] = 0


@compile_loop
def _add_products(group: np.ndarray, gram: np.ndarray) -> None:
    """Add ``group' group`` to ``gram``; also below the diagonal, since loops of one length are faster."""
    width = group.shape[1]
    for i in range(width):
        a, b, c, d = group[0, i], group[1, i], group[2, i], group[3, i]
        e, f, g, h = group[4, i], group[5, i], group[6, i], group[7, i]
        for j in range(width):
            gram[i, j] += (
                a * group[0, j] + b * group[1, j] + c * group[2, j] + d * group[3, j]
                + e * group[4, j] + f * group[5, j] + g * group[6, j] + h * group[7, j]
            )  # fmt: skip


@compile_loop
def _solve(gram: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
    """Set ``out = inv(gram) right``, [W], for a positive definite ``gram`` [W, W]; overwrites both arguments."""
    width = len(right)
    for i in range(width):  # gram becomes U of gram = U' U, but for the diagonal, which becomes that of 1 / U
        scale = 1 / np.sqrt(gram[i, i])
        for j in range(i, width):
            gram[i, j] *= scale
        right[i] *= scale
        for k in range(i + 1, width):
            factor = gram[i, k]
            right[k] -= factor * right[i]
            for j in range(k, width):
                gram[k, j] -= factor * gram[i, j]
        gram[i, i] = scale
    for i in range(width - 1, -1, -1):
        rest = right[i]
        for j in range(i + 1, width):
            rest -= gram[i, j] * out[j]
        out[i] = rest * gram[i, i]


@compile_loop
def count_pairs(
    row_starts: np.ndarray, columns: np.ndarray, column_starts: np.ndarray, rows: np.ndarray, out: np.ndarray
) -> None:
    """Add to ``out[i, j]``, j <= i, in how many rows of a sparse matrix both columns i and j have a cell.

    Args:
        row_starts: int [rows + 1], where each row's cells begin and end.
        columns: int [cells], ascending in each row.
        column_starts: int [columns + 1], where each column's cells begin and end in ``rows``.
        rows: int [cells].
        out: [columns, columns].
    """
    for i in range(len(column_starts) - 1):
        for k in range(column_starts[i], column_starts[i + 1]):
            row = rows[k]
            for cell in range(row_starts[row], row_starts[row + 1]):
                if columns[cell] > i:
                    break
                out[i, columns[cell]] += 1
