import numpy as np
import pytest

from ml.inference.engine.regression import Regression


def numbers(pairs: int, features: int) -> np.ndarray:
    return np.random.default_rng(1).normal(3, 2, size=(pairs, features)).astype(np.float32)


def rows_of(regression: Regression, pairs: np.ndarray) -> np.ndarray:
    """Predictions of pairs [n, features], as one row."""
    return regression.rows(np.ascontiguousarray(pairs.T[None]))[0]


def test_finds_a_polynomial_of_two_features() -> None:
    pairs = numbers(3000, 2)
    x, y = pairs.T
    regression = Regression.fit(pairs, 2 + 3 * x - y + 0.5 * x * y - 0.25 * y * y)
    some = np.array([[3, 3], [4, 2], [2, 5]], np.float32)
    np.testing.assert_allclose(rows_of(regression, some), [10.25, 15, 1.75], atol=0.05)


def test_finds_a_change_of_slope() -> None:
    pairs = numbers(3001, 1)
    bend = np.median(pairs)
    regression = Regression.fit(pairs, 4 * np.maximum(pairs[:, 0] - bend, 0))
    some = np.array([[bend - 1], [bend], [bend + 1]], np.float32)
    np.testing.assert_allclose(rows_of(regression, some), [0, 0, 4], atol=0.02)


def test_without_features_it_is_the_mean() -> None:
    regression = Regression.fit(np.empty((4, 0), np.float32), np.array([1, 2, 3, 6], np.float32))
    found = regression.rows(np.empty((2, 0, 70), np.float32))
    assert found.shape == (2, 70)
    np.testing.assert_allclose(found, 3, atol=1e-4)


def test_constant_and_equal_features_do_no_harm() -> None:
    x = numbers(1000, 1)
    pairs = np.hstack([x, x, np.full_like(x, 7)])
    regression = Regression.fit(pairs, 2 * x[:, 0])
    np.testing.assert_allclose(rows_of(regression, pairs[:50]), 2 * x[:50, 0], atol=0.05)


@pytest.mark.parametrize("movies", [1, 63, 64, 65, 200])
def test_rows_are_predicted_pair_by_pair(movies: int) -> None:
    pairs = numbers(3 * movies + 500, 3)
    regression = Regression.fit(pairs, np.sin(pairs).sum(axis=1))
    grid = pairs[: 3 * movies].reshape(3, movies, 3)
    found = regression.rows(np.ascontiguousarray(grid.transpose(0, 2, 1)))
    for row in range(3):
        one_by_one = [rows_of(regression, grid[row, [movie]])[0] for movie in range(movies)]
        np.testing.assert_allclose(found[row], one_by_one, rtol=1e-5, atol=1e-5)


def test_beyond_what_was_fitted_it_is_constant() -> None:
    pairs = numbers(1000, 1)
    regression = Regression.fit(pairs, pairs[:, 0] ** 2)
    highest = pairs.max()
    at, beyond = rows_of(regression, np.array([[highest], [highest + 50]], np.float32))
    assert at == pytest.approx(beyond, rel=1e-5)
    assert at == pytest.approx(highest**2, rel=0.05)


def test_pairs_beyond_what_was_fitted_are_known() -> None:
    pairs = numbers(1000, 2)
    regression = Regression.fit(pairs, pairs[:, 0])
    lowest, highest = pairs.min(axis=0) + 0.01, pairs.max(axis=0) - 0.01
    inside = [lowest, highest, [lowest[0], highest[1]]]
    outside = [[lowest[0] - 1, highest[1]], [highest[0] + 1, lowest[1]], [lowest[0], highest[1] + 1]]
    some = np.array([*inside, *outside], np.float32)
    assert regression.is_beyond(np.ascontiguousarray(some.T[None])).tolist() == [[False] * 3 + [True] * 3]
