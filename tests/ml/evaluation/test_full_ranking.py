from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from ml.evaluation.full_ranking import top_lists

USERS, MOVIES = 37, 23


def fixed(scores: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Return a model with these scores, [users, items]."""
    return lambda users: scores[users]


def training(*pairs: tuple[int, int]) -> pd.DataFrame:
    return pd.DataFrame(list(pairs), columns=["user_id", "movie_id"]).astype("int32")


def as_lists(frame: pd.DataFrame) -> dict[int, list[int]]:
    return {int(user): rows["movie_id"].tolist() for user, rows in frame.groupby("user_id")}


@pytest.fixture
def scores() -> np.ndarray:
    """Return scores with few distinct values, so many ties."""
    return np.random.default_rng(0).integers(-3, 4, (USERS, MOVIES)).astype(np.float64)


@pytest.fixture
def train() -> pd.DataFrame:
    """Return users with no rows up to users with rows of every item, in random order."""
    rng = np.random.default_rng(1)
    seen = rng.random((USERS, MOVIES)) < np.linspace(0, 1, USERS)[:, None]
    user, movie = np.nonzero(seen)
    frame = pd.DataFrame({"user_id": user, "movie_id": movie}).astype("int32")
    return frame.assign(label=rng.integers(0, 2, len(frame)).astype("int8")).sample(frac=1, random_state=2)


def test_lists_by_hand() -> None:
    scores = np.array([[0.1, 0.9, 0.5, 0.7], [4.0, 3.0, 2.0, 1.0]])
    lists = top_lists(fixed(scores), training((0, 1), (1, 0), (1, 3)), 2, 4, length=2)
    expected = pd.DataFrame({"user_id": [0, 0, 1, 1], "rank": [1, 2, 1, 2], "movie_id": [3, 2, 1, 2]})
    pd.testing.assert_frame_equal(
        lists, expected.astype({"user_id": "int32", "rank": "int16", "movie_id": "int32"}), check_exact=True
    )


def test_equal_scores_rank_by_rising_movie() -> None:
    scores = np.array([[1.0, 2.0, 1.0, 2.0, 1.0], [0.0, -0.0, 0.0, 0.0, -0.0]])
    lists = as_lists(top_lists(fixed(scores), training((1, 0)), 2, 5, length=3))
    assert lists == {0: [1, 3, 0], 1: [1, 2, 3]}


def test_a_list_is_shorter_where_movies_run_out() -> None:
    lists = top_lists(fixed(np.zeros((3, 3))), training((0, 0), (1, 0), (1, 1), (1, 2)), 3, 3)
    assert as_lists(lists) == {0: [1, 2], 2: [0, 1, 2]}
    assert lists["rank"].tolist() == [1, 2, 1, 2, 3]


def test_lowest_possible_scores_are_listed_all_the_same() -> None:
    lists = top_lists(fixed(np.array([[-np.inf, 1.0, -np.inf, -np.inf]])), training((0, 2)), 1, 4)
    assert as_lists(lists) == {0: [1, 0, 3]}


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
@pytest.mark.parametrize("length", [1, 10, 30])
def test_lists_against_a_sort_a_user(scores: np.ndarray, train: pd.DataFrame, dtype: str, length: int) -> None:
    seen = set(zip(train["user_id"], train["movie_id"], strict=True))
    expected = {}
    for user in range(USERS):
        unseen = [movie for movie in range(MOVIES) if (user, movie) not in seen]
        if unseen:
            expected[user] = sorted(unseen, key=lambda movie, user=user: (-scores[user, movie], movie))[:length]
    lists = top_lists(fixed(scores.astype(dtype)), train, USERS, MOVIES, length)
    assert as_lists(lists) == expected
    assert len(expected) < USERS
    assert not seen & set(zip(lists["user_id"], lists["movie_id"], strict=True))


@pytest.mark.parametrize("block", [1, 8, 37, 100])
def test_neither_blocks_nor_the_order_of_training_rows_matter(
    scores: np.ndarray, train: pd.DataFrame, block: int
) -> None:
    expected = top_lists(fixed(scores), train, USERS, MOVIES)
    shuffled = top_lists(fixed(scores), train.sample(frac=1, random_state=5), USERS, MOVIES, block=block)
    pd.testing.assert_frame_equal(shuffled, expected, check_exact=True)


def test_scores_are_not_changed(scores: np.ndarray, train: pd.DataFrame) -> None:
    before = scores.copy()
    top_lists(lambda users: scores[users[0] : users[-1] + 1], train, USERS, MOVIES)
    assert (scores == before).all()


def test_bad_scores_are_errors() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 3\); expected \(2, 4\)"):
        top_lists(fixed(np.zeros((2, 3))), training(), 2, 4)
    with pytest.raises(ValueError, match="NaN among the scores of users 0 to 1"):
        top_lists(fixed(np.array([[0.0, 1.0], [np.nan, 1.0]])), training(), 2, 2)
