import numpy as np
import pandas as pd
import pytest

from ml.exploration import statistics
from ml.exploration.statistics import RatingCounts

JANUARY, MARCH = 946_684_800, 951_868_800  # 1 January and 1 March 2000, 0:00 UTC


@pytest.fixture
def movies() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "movie_id": [1, 2, 3],
            "genres": ["Drama|War", "Drama", "Comedy"],
            "movie_year": [1990, 1990, 2000],
            "movie_decade": ["1990s", "1990s", "2000s"],
        }
    )


@pytest.fixture
def users() -> pd.DataFrame:
    return pd.DataFrame({"user_id": [7, 8, 9], "gender": ["F", "M", "F"], "age": [1, 56, 1], "occupation": [0, 20, 20]})


@pytest.fixture
def ratings() -> pd.DataFrame:
    rows = [(7, 1, 5, JANUARY), (7, 2, 4, JANUARY + 60), (8, 1, 1, JANUARY), (8, 2, 3, MARCH)]
    frame = pd.DataFrame(rows, columns=["user_id", "movie_id", "rating", "timestamp"])
    return frame.assign(label=[1, 1, 0, 0], rating_year=2000, rating_month=[1, 1, 1, 3])


@pytest.fixture(params=[1, 3, 4])
def counts(ratings: pd.DataFrame, request: pytest.FixtureRequest) -> RatingCounts:
    """The counts of the ratings, which come in blocks of any size."""
    size: int = request.param
    return RatingCounts.of(ratings.iloc[start : start + size] for start in range(0, len(ratings), size))


def test_totals(users: pd.DataFrame, movies: pd.DataFrame, counts: RatingCounts) -> None:
    assert statistics.totals(users, movies, counts) == {
        "users": 3,
        "movies": 3,
        "ratings": 4,
        "rated_movies": 2,
        "mean_rating": 3.25,
        "like_share": 0.5,
        "density": 4 / 6,
        "median_of_user": 2.0,
        "median_of_movie": 2.0,
        "rarely_rated": 2,
    }


def test_counts_of_movies(movies: pd.DataFrame) -> None:
    assert statistics.movies_by_genre(movies).to_dict() == {"Drama": 2, "War": 1, "Comedy": 1}
    assert statistics.movies_by_genre(movies).index[0] == "Drama"
    assert statistics.movies_by_year(movies).to_dict() == {1990: 2, 2000: 1}


def test_ratings_by_genre_and_decade(movies: pd.DataFrame, counts: RatingCounts) -> None:
    by_genre = statistics.ratings_by_genre(movies, counts)
    assert by_genre.to_dict("index") == {
        "Drama": {"ratings": 4, "mean_rating": 3.25},
        "War": {"ratings": 2, "mean_rating": 3.0},
    }
    assert statistics.likes_by_decade(movies, counts).to_dict("index") == {"1990s": {"ratings": 4, "like_share": 0.5}}
    assert counts.by_value.to_dict() == {1: 1, 3: 1, 4: 1, 5: 1}


def test_ratings_by_month_have_no_gaps(counts: RatingCounts) -> None:
    months = statistics.ratings_by_month(counts)
    assert months.index.tolist() == ["2000-01", "2000-02", "2000-03"]
    assert months["ratings"].tolist() == [3, 0, 1]
    assert months["new_users"].tolist() == [2, 0, 0]
    assert months["like_share"].tolist() == [pytest.approx(2 / 3), pytest.approx(np.nan, nan_ok=True), 0]
    assert statistics.share_in_one_month(counts) == 0.5


def test_users_have_readable_names(users: pd.DataFrame) -> None:
    assert statistics.users_by(users, "age").to_dict() == {"under 18": 2, "56 or over": 1}
    assert statistics.users_by(users, "occupation").to_dict() == {"other": 1, "writer": 2}
    assert statistics.users_by(users, "gender").to_dict() == {"F": 2, "M": 1}


def test_long_tail() -> None:
    counts = statistics.long_tail(pd.DataFrame({"ratings": [3, 1, 6]}))
    assert counts.tolist() == [6, 3, 1]
    assert statistics.top_shares(np.array([50] + [10] * 4 + [2] * 5)) == {0.01: 0.5, 0.1: 0.5, 0.2: 0.6}


def test_shares_of_the_top() -> None:
    found = statistics.shares_of_the_top(np.array([6, 3, 1, 0]))
    assert found.index.tolist() == [0, 25, 50, 75, 100]
    assert found.tolist() == pytest.approx([0, 60, 90, 100, 100])
