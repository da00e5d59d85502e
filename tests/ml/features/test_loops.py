import numpy as np
import pytest
from scipy import sparse

from ml.features.loops import count_pairs, solve_rows

ROWS, COLUMNS = 50, 45


def some_cells(seed: int, share: float = 0.4) -> np.ndarray:
    """Values of some cells, 0 elsewhere: the first row has none, and the second all."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(ROWS, COLUMNS)) * (rng.random((ROWS, COLUMNS)) < share)
    values[0], values[1] = 0, 1
    return values


@pytest.mark.parametrize("width", [1, 2, 8, 13])
def test_rows_are_solved_as_by_a_general_solver(width: int) -> None:
    values, design = some_cells(1), np.random.default_rng(2).normal(size=(COLUMNS, width))
    table, ridges = sparse.csr_array(values), np.linspace(0.1, 5, ROWS)
    assert {*np.diff(table.indptr)} >= {0, COLUMNS}
    assert len({*np.diff(table.indptr) % 8}) > 4  # groups of several lengths
    found = np.full((ROWS, width), np.nan)
    solve_rows(table.indptr, table.indices, table.data, design, ridges, found)
    for row, ridge, weights in zip(values, ridges, found, strict=True):
        own = design[row != 0]
        expected = np.linalg.solve(own.T @ own + ridge * np.eye(width), own.T @ row[row != 0])
        np.testing.assert_allclose(weights, expected, rtol=1e-10, atol=1e-12)


def test_pairs_by_hand() -> None:
    seen = sparse.csr_array(np.array([[1, 1, 0], [0, 1, 1], [1, 1, 1]]))
    by_column, found = seen.T.tocsr(), np.zeros((3, 3))
    count_pairs(seen.indptr, seen.indices, by_column.indptr, by_column.indices, found)
    assert found.tolist() == [[2, 0, 0], [2, 3, 0], [1, 2, 2]]


def test_pairs_are_the_lower_half_of_the_gram_matrix() -> None:
    seen = sparse.csr_array((some_cells(3) != 0).astype(np.float64))
    by_column, found = seen.T.tocsr(), np.zeros((COLUMNS, COLUMNS))
    count_pairs(seen.indptr, seen.indices, by_column.indptr, by_column.indices, found)
    assert found.tolist() == np.tril((seen.T @ seen).toarray()).tolist()
