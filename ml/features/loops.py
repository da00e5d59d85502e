"""Compiled loops of matrix factorizations and EASE.

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
    nothing = np.zeros(width)
    for r in range(len(starts) - 1):
        _normal_equations(starts[r], starts[r + 1], columns, values, design, group, gram, right)
        for i in range(width):
            gram[i, i] += ridges[r]
        _solve(gram, right, nothing, out[r])


@compile_loop
def sample_rows(
    starts: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    design: np.ndarray,
    precision: np.ndarray,
    shifts: np.ndarray,
    normal: np.ndarray,
    out: np.ndarray,
) -> None:
    """Set ``out[r]`` to a draw of the weights of a Bayesian linear regression of a sparse row's values.

    With A = ``X' X + precision``, the draw is normal with the covariance inv(A) and the mean ``inv(A) (X' y +
    shifts[r])``: the posterior for values whose noise has the variance 1, and weights with the prior mean
    ``inv(precision) shifts[r]``.

    Args:
        starts: see ``solve_rows``; the next three too.
        columns: as above.
        values: as above.
        design: as above.
        precision: of the prior, positive definite, float64 [W, W].
        shifts: float64 [rows, W].
        normal: standard normal numbers, float64 [rows, W].
        out: float64 [rows, W].
    """
    width = design.shape[1]
    gram, right, group = np.empty((width, width)), np.empty(width), np.empty((_GROUP, width))
    for r in range(len(starts) - 1):
        _normal_equations(starts[r], starts[r + 1], columns, values, design, group, gram, right)
        for i in range(width):
            right[i] += shifts[r, i]
            for j in range(width):
                gram[i, j] += precision[i, j]
        _solve(gram, right, normal[r], out[r])


@compile_loop
def squared_error(
    starts: np.ndarray, columns: np.ndarray, values: np.ndarray, design: np.ndarray, weights: np.ndarray
) -> float:
    """Return the sum of ``(value - weights[row] . design[column])^2`` over all cells.

    Args:
        starts: see ``solve_rows``; the next three too.
        columns: as above.
        values: as above.
        design: as above.
        weights: float64 [rows, W].
    """
    total = 0.0
    for r in range(len(starts) - 1):
        for cell in range(starts[r], starts[r + 1]):
            error = values[cell]
            for j in range(design.shape[1]):
                error -= weights[r, j] * design[columns[cell], j]
            total += error * error
    return total


@compile_loop
def _normal_equations(
    first: int,
    last: int,
    columns: np.ndarray,
    values: np.ndarray,
    design: np.ndarray,
    group: np.ndarray,
    gram: np.ndarray,
    right: np.ndarray,
) -> None:
    """Set ``gram`` [W, W] to X' X and ``right`` [W] to X' y for the cells from ``first`` up to, without, ``last``."""
    gram[:] = 0
    right[:] = 0
    for start in range(first, last, _GROUP):
        _take_rows(columns, values, start, min(start + _GROUP, last), design, group, right)
        _add_products(group, gram)


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
def _solve(gram: np.ndarray, right: np.ndarray, normal: np.ndarray, out: np.ndarray) -> None:
    """Set ``out = inv(gram) right + inv(U) normal``, [W], for a positive definite ``gram = U' U``, [W, W].

    Standard normal numbers in ``normal`` make a draw with the covariance inv(gram); zeros make the mean. Overwrites
    ``gram`` and ``right``.
    """
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
        rest = right[i] + normal[i]
        for j in range(i + 1, width):
            rest -= gram[i, j] * out[j]
        out[i] = rest * gram[i, i]


@compile_loop
def lower_gram(
    row_starts: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    column_starts: np.ndarray,
    rows: np.ndarray,
    column_values: np.ndarray,
    out: np.ndarray,
) -> None:
    """Add ``X' X`` to ``out``, at and below the diagonal, for a sparse matrix X.

    Args:
        row_starts: int [rows + 1], where each row's cells begin and end: ``indptr`` of a SciPy CSR array.
        columns: int [cells], ascending in each row.
        values: float64 [cells].
        column_starts: int [columns + 1]; these three are those of the transposed matrix.
        rows: int [cells].
        column_values: float64 [cells].
        out: float64 [columns, columns].
    """
    for i in range(len(column_starts) - 1):
        for k in range(column_starts[i], column_starts[i + 1]):
            row, own = rows[k], column_values[k]
            for cell in range(row_starts[row], row_starts[row + 1]):
                if columns[cell] > i:
                    break
                out[i, columns[cell]] += own * values[cell]
