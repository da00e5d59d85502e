import numba
import numpy as np
import pytest

from ml.compiled.loops import LANES, compile_loop
from ml.compiled.products import multiply, transpose


@pytest.mark.parametrize(("rows", "columns", "depth"), [(1, 1, 1), (3, 2, 5), (13, 13, 16), (14, 16, 14), (5, 33, 2)])
def test_each_lane_is_a_product_of_matrices(rows: int, columns: int, depth: int) -> None:
    rng = np.random.default_rng(0)
    left = rng.standard_normal((rows, depth, LANES)).astype(np.float32)
    right = rng.standard_normal((columns, depth, LANES)).astype(np.float32)  # transposed
    out = np.full((rows, columns, LANES), np.nan, np.float32)
    line, across = depth * LANES, columns * LANES

    @compile_loop
    def product(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> None:
        multiply(left, line, LANES, right, line, LANES, out, across, LANES, rows, columns, depth)

    product(left.ravel(), right.ravel(), out.reshape(-1))
    np.testing.assert_allclose(out, np.einsum("mkb,nkb->mnb", left, right), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 3), (4, 48), (16, 16), (32, 7), (23, 35)])
def test_a_matrix_is_transposed(rows: int, columns: int) -> None:
    matrix = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    out = np.full((columns, rows), np.nan, np.float32)

    @compile_loop
    def transposition(matrix: np.ndarray, out: np.ndarray) -> None:
        transpose(matrix, out, rows, columns)

    transposition(matrix.reshape(-1), out.reshape(-1))
    np.testing.assert_array_equal(out, matrix.T)


def test_sizes_must_be_known_when_a_loop_is_compiled() -> None:
    @compile_loop
    def product(numbers: np.ndarray, out: np.ndarray) -> None:
        multiply(numbers, 1, 1, numbers, 1, 1, out, 1, 1, len(numbers), 1, 1)

    @compile_loop
    def transposition(numbers: np.ndarray, out: np.ndarray) -> None:
        transpose(numbers, out, len(numbers), 1)

    for loop in (product, transposition):
        with pytest.raises(numba.TypingError):
            loop(np.zeros(LANES, np.float32), np.zeros(LANES, np.float32))
