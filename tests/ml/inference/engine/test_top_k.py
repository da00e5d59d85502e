import numpy as np
import pytest

from ml.inference.engine.top_k import MISSING, TopLists, cut

INF = np.inf


def test_falling_probability_then_rising_position() -> None:
    logits = np.array([[0.5, 2.0, -1.0, 2.0, 0.5], [1.0, 1.0, 1.0, 1.0, 3.0]], np.float32)
    lists = cut(logits, 3)
    assert lists.movies.tolist() == [[1, 3, 0], [4, 0, 1]]
    np.testing.assert_allclose(lists.scores[0], [0.880797, 0.880797, 0.622459], atol=1e-6)


def test_logits_of_one_probability_are_equal_scores() -> None:
    logits = np.array([[40.0, 50.0, 60.0, 30.0]], np.float32)  # float32's probability of each is 1
    assert cut(logits, 3).movies.tolist() == [[0, 1, 2]]


def test_short_and_empty_rows() -> None:
    logits = np.array([[-INF, 1.0, -INF], [-INF, -INF, -INF], [3.0, 1.0, 2.0]], np.float32)
    lists = cut(logits, 2)
    assert lists.movies.tolist() == [[1, MISSING], [MISSING, MISSING], [0, 2]]
    assert np.isnan(lists.scores).tolist() == [[False, True], [True, True], [False, False]]


def test_longer_than_the_catalogue() -> None:
    assert cut(np.array([[1.0, 2.0]], np.float32), 4).movies.tolist() == [[1, 0, MISSING, MISSING]]


@pytest.mark.parametrize(
    ("movies", "scores", "differences"),
    [
        ([[5, 6], [7, 8]], [[0.9, 0.8], [0.7, 0.6]], 0),
        ([[6, 5], [7, 8]], [[0.9, 0.8], [0.7, 0.6]], 0),  # the same scores under other movies: only their order
        ([[5, 6], [7, 9]], [[0.9, 0.8], [0.7, 0.5]], 1),
        ([[4, 6], [9, 8]], [[0.95, 0.8], [0.75, 0.6]], 2),
        ([[5, 6], [7, MISSING]], [[0.9, 0.8], [0.7, np.nan]], 1),
    ],
)
def test_differences(movies: list[list[int]], scores: list[list[float]], differences: int) -> None:
    one = TopLists(np.array([[5, 6], [7, 8]], np.int32), np.array([[0.9, 0.8], [0.7, 0.6]], np.float32))
    assert one.differences(TopLists(np.array(movies, np.int32), np.array(scores, np.float32))) == differences
