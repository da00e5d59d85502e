import numpy as np
import pytest
from scipy import sparse

from ml.features.loops import lower_gram, sample_rows, solve_rows, squared_error

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


def test_the_gram_matrix_by_hand() -> None:
    table = sparse.csr_array(np.array([[1.0, 2, 0], [0, 1, 1], [1, 1, 1]]))
    assert found_gram(table).tolist() == [[2, 0, 0], [3, 6, 0], [1, 2, 2]]


def test_the_gram_matrix_is_the_lower_half_of_the_product() -> None:
    table = sparse.csr_array(some_cells(3))
    assert found_gram(table) == pytest.approx(np.tril((table.T @ table).toarray()), abs=1e-12)


def found_gram(table: sparse.csr_array) -> np.ndarray:
    by_column, found = table.T.tocsr(), np.zeros((table.shape[1],) * 2)
    lower_gram(table.indptr, table.indices, table.data, by_column.indptr, by_column.indices, by_column.data, found)
    return found


def test_drawn_rows_have_the_posterior_s_mean_and_covariance() -> None:
    """The same cells in 20,000 rows: their draws against the closed form of a Bayesian linear regression."""
    rng, rows = np.random.default_rng(4), 20_000
    own, design = np.array([1, 4, 7]), rng.normal(size=(9, 2))
    values = np.array([0.5, -1.0, 2.0])
    prior, prior_mean = np.array([[2.0, 0.5], [0.5, 1.0]]), np.array([0.3, -0.7])
    means, found = np.empty((rows, 2)), rng.normal(size=(rows, 2))
    sample_rows(
        np.arange(rows + 1) * 3,
        np.tile(own, rows),
        np.tile(values, rows),
        design,
        prior,
        np.tile(prior @ prior_mean, (rows, 1)),
        means,
        found,
    )
    cells = design[own]
    covariance = np.linalg.inv(cells.T @ cells + prior)
    mean = covariance @ (cells.T @ values + prior @ prior_mean)
    np.testing.assert_allclose(means, np.tile(mean, (rows, 1)), rtol=1e-10)
    np.testing.assert_allclose(found.mean(axis=0), mean, atol=0.02)
    np.testing.assert_allclose(np.cov(found.T), covariance, atol=0.02)


def test_residuals_are_those_of_every_cell() -> None:
    rng = np.random.default_rng(16)
    values = sparse.csr_array(rng.normal(size=(5, 7)) * (rng.random((5, 7)) < 0.5))
    weights, design = rng.normal(size=(5, 3)), rng.normal(size=(7, 3))
    dense = values.toarray()
    expected = ((dense - weights @ design.T)[dense != 0] ** 2).sum()
    found = squared_error(values.indptr, values.indices, values.data, design, weights)
    assert found == pytest.approx(expected, rel=1e-12)
