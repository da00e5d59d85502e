"""Compiled loops of matrix factorizations and EASE.

Each call computes without Python's lock and, where BLAS may use one thread, in one thread.
"""

import numpy as np

from ml.compiled.loops import compile_loop


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
    gram, right = np.empty((width, width)), np.empty(width)
    rows = np.empty((np.diff(starts).max(), width))
    for r in range(len(starts) - 1):
        _normal_equations(starts[r], starts[r + 1], columns, values, design, rows, gram, right)
        for i in range(width):
            gram[i, i] += ridges[r]
        _factorize(gram, right)
        _back_substitute(gram, right, out[r])


@compile_loop
def sample_rows(
    starts: np.ndarray,
    columns: np.ndarray,
    values: np.ndarray,
    design: np.ndarray,
    precision: np.ndarray,
    shifts: np.ndarray,
    means: np.ndarray,
    draws: np.ndarray,
) -> None:
    """Draw the weights of a Bayesian linear regression of each sparse row's values on the rows of ``design``.

    With A = ``X' X + precision``, a row's weights are normal with the mean ``inv(A) (X' y + shifts[r])`` and the
    covariance inv(A): the posterior for values whose noise has the variance 1, and weights with the prior mean
    ``inv(precision) shifts[r]``. All arrays but the first two have one dtype, in which everything is computed.

    Args:
        starts: see ``solve_rows``; the next three too.
        columns: as above.
        values: as above.
        design: as above.
        precision: of the prior, positive definite, [W, W].
        shifts: [rows, W].
        means: to be set to the posterior means, [rows, W].
        draws: standard normal numbers, to be replaced by the draws, [rows, W].
    """
    width = design.shape[1]
    gram, right, noise = np.empty_like(precision), np.empty_like(shifts[0]), np.empty_like(shifts[0])
    rows = np.empty((np.diff(starts).max(), width), design.dtype)
    for r in range(len(starts) - 1):
        _normal_equations(starts[r], starts[r + 1], columns, values, design, rows, gram, right)
        for i in range(width):
            right[i] += shifts[r, i]
            for j in range(width):
                gram[i, j] += precision[i, j]
        _factorize(gram, right)
        _back_substitute(gram, right, means[r])
        _back_substitute(gram, draws[r], noise)
        for i in range(width):
            draws[r, i] = means[r, i] + noise[i]


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
    rows: np.ndarray,
    gram: np.ndarray,
    right: np.ndarray,
) -> None:
    """Set ``gram`` [W, W] to X' X and ``right`` [W] to X' y for the cells from ``first`` up to, without, ``last``.

    ``rows`` is work space for X.
    """
    for k in range(last - first):
        column = columns[first + k]
        for j in range(design.shape[1]):
            rows[k, j] = design[column, j]
    own = rows[: last - first]
    np.dot(own.T, own, gram)
    np.dot(own.T, values[first:last], right)


@compile_loop
def _factorize(gram: np.ndarray, right: np.ndarray) -> None:
    """Factorize a positive definite ``gram = U' U``, [W, W], in place.

    It becomes U, with a diagonal that is inverted, and ``right``, [W], becomes ``inv(U') right``.
    """
    width = len(right)
    for i in range(width):
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


@compile_loop
def _back_substitute(upper: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
    """Set ``out = inv(U) right``, [W], for U as ``_factorize`` leaves it.

    Of a right side from there, it is the solution; of standard normal numbers, a draw with the covariance inv(gram).
    """
    width = len(right)
    for i in range(width - 1, -1, -1):
        rest = right[i]
        for j in range(i + 1, width):
            rest -= upper[i, j] * out[j]
        out[i] = rest * upper[i, i]


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
