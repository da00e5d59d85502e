"""Compute the data report's statistics: small tables, ready to draw.

What they need of the ratings are ``RatingCounts``, which are added up over blocks of ratings.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ml import schema
from ml.data.movielens_tables import has_codes

FEW_RATINGS = 10
_TOP_SHARES = (0.01, 0.1, 0.2)


@dataclass(frozen=True)
class RatingCounts:
    """Counts of ratings.

    Attributes:
        by_value: number of ratings by rating, ascending.
        by_movie: ratings, sum_of_ratings and likes of each rated movie, by movie_id.
        by_user: ratings, first_month and last_month of each user with a rating, by user_id.
        by_month: ratings and likes of each month with ratings. Months are counted from January of year 0.
    """

    by_value: pd.Series
    by_movie: pd.DataFrame
    by_user: pd.DataFrame
    by_month: pd.DataFrame

    @classmethod
    def of(cls, ratings: Iterable[pd.DataFrame]) -> "RatingCounts":
        """Count the preprocessed ratings, which come in blocks; there must be at least one."""
        values, movies, users, months = zip(*map(_counts, ratings), strict=True)
        added: dict[str, Any] = {"ratings": "sum", "likes": "sum"}
        first_and_last: dict[str, Any] = {"ratings": "sum", "first_month": "min", "last_month": "max"}
        return cls(
            pd.concat(values).groupby(level=0).sum(),
            pd.concat(movies).groupby(level=0).agg({**added, "sum_of_ratings": "sum"}),
            pd.concat(users).groupby(level=0).agg(first_and_last),
            pd.concat(months).groupby(level=0).agg(added),
        )

    @property
    def ratings(self) -> int:
        """Number of ratings."""
        return int(self.by_value.sum())


def _counts(ratings: pd.DataFrame) -> tuple[pd.Series, pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the counts of a block, as the attributes of ``RatingCounts``."""
    month = ratings["rating_year"].astype(int) * 12 + ratings["rating_month"] - 1
    rows = ratings[["user_id", "movie_id"]].assign(
        ratings=1, likes=ratings[schema.LABEL].astype(int), month=month, rating=ratings["rating"].astype(float)
    )
    likes: dict[str, Any] = {"ratings": ("ratings", "sum"), "likes": ("likes", "sum")}
    of_movies = rows.groupby("movie_id").agg(**likes, sum_of_ratings=("rating", "sum"))
    of_users = rows.groupby("user_id").agg(
        ratings=("ratings", "sum"), first_month=("month", "min"), last_month=("month", "max")
    )
    return ratings["rating"].value_counts(), of_movies, of_users, rows.groupby("month").agg(**likes)


def totals(users: pd.DataFrame, movies: pd.DataFrame, counts: RatingCounts) -> dict[str, float]:
    """Compute totals of the preprocessed tables.

    Returns:
        By name: users, movies, ratings: number of rows of each table. rated_movies: number of movies with a rating.
        mean_rating: mean of all ratings. like_share: share of ratings that are likes. density: number of ratings
        divided by (users times rated movies). median_of_user, median_of_movie: median number of ratings per user with a
        rating, and per rated movie. rarely_rated: number of rated movies with fewer than ``FEW_RATINGS`` ratings.
    """
    ratings, of_movie = counts.ratings, counts.by_movie["ratings"]
    return {
        "users": len(users),
        "movies": len(movies),
        "ratings": ratings,
        "rated_movies": len(of_movie),
        "mean_rating": float(counts.by_movie["sum_of_ratings"].sum() / ratings),
        "like_share": float(counts.by_movie["likes"].sum() / ratings),
        "density": ratings / (len(users) * len(of_movie)),
        "median_of_user": float(counts.by_user["ratings"].median()),
        "median_of_movie": float(of_movie.median()),
        "rarely_rated": int((of_movie < FEW_RATINGS).sum()),
    }


def movies_by_genre(movies: pd.DataFrame) -> pd.Series:
    """Count the movies by genre, largest first; a movie counts in each of its genres."""
    return _genres(movies)["genre"].value_counts().sort_values(ascending=False, kind="stable")


def movies_by_year(movies: pd.DataFrame) -> pd.Series:
    """Count the movies by release year, those that have one."""
    years = movies["movie_year"]
    return years[years != schema.NO_YEAR].value_counts().sort_index()


def ratings_by_genre(movies: pd.DataFrame, counts: RatingCounts) -> pd.DataFrame:
    """Return ratings and mean_rating by genre, most rated first; a rating counts in each genre of its movie."""
    joined = _genres(movies).join(counts.by_movie, on="movie_id", how="inner")
    sums = joined.groupby("genre")[["ratings", "sum_of_ratings"]].sum()
    found = sums[["ratings"]].assign(mean_rating=sums["sum_of_ratings"] / sums["ratings"])
    return found.sort_values("ratings", ascending=False, kind="stable")


def likes_by_decade(movies: pd.DataFrame, counts: RatingCounts) -> pd.DataFrame:
    """Return ratings and like_share by release decade."""
    joined = movies[["movie_id", "movie_decade"]].join(counts.by_movie, on="movie_id", how="inner")
    return _like_shares(joined.groupby("movie_decade")[["ratings", "likes"]].sum())


def ratings_by_month(counts: RatingCounts) -> pd.DataFrame:
    """Return ratings, like_share and new_users (with their first rating) by month, ``YYYY-MM``, without gaps."""
    whole = range(counts.by_month.index.min(), counts.by_month.index.max() + 1)
    new_users = counts.by_user["first_month"].value_counts()
    table = _like_shares(counts.by_month).reindex(whole).assign(new_users=new_users.reindex(whole))
    table[["ratings", "new_users"]] = table[["ratings", "new_users"]].fillna(0).astype(int)
    return table.set_axis([f"{month // 12:04d}-{month % 12 + 1:02d}" for month in whole])


def share_in_one_month(counts: RatingCounts) -> float:
    """Return the share of users with ratings whose ratings are all from one month."""
    return float((counts.by_user["first_month"] == counts.by_user["last_month"]).mean())


def users_by(users: pd.DataFrame, field: str) -> pd.Series:
    """Count the users by gender, age or occupation, with readable names."""
    names: dict[str, dict[Any, str]] = {"age": schema.AGE_GROUPS, "occupation": dict(enumerate(schema.OCCUPATIONS))}
    own = names.get(field, {}) if has_codes(users) else {}
    counts = users[field].value_counts().sort_index()
    return counts.set_axis([str(own.get(value, value)) for value in counts.index])


def long_tail(table: pd.DataFrame) -> np.ndarray:
    """Return ``ratings`` of each movie or user, largest first, int [movies or users]."""
    return np.sort(table["ratings"].to_numpy())[::-1]


def top_shares(counts: np.ndarray) -> dict[float, float]:
    """Return the share of all ratings of the top 1, 10 and 20 %; ``counts`` is sorted, largest first."""
    return {share: float(counts[: max(round(share * len(counts)), 1)].sum() / counts.sum()) for share in _TOP_SHARES}


def shares_of_the_top(counts: np.ndarray) -> pd.Series:
    """Return the cumulative % of the ratings, indexed by the top % of movies or users; ``counts`` is sorted."""
    found = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
    return pd.Series(100 * found, index=100 * np.linspace(0, 1, len(found)))


def _like_shares(counts: pd.DataFrame) -> pd.DataFrame:
    return counts[["ratings"]].assign(like_share=counts["likes"] / counts["ratings"])


def _genres(movies: pd.DataFrame) -> pd.DataFrame:
    """Return movie_id and genre, one row for each genre of a movie."""
    split = movies["genres"].replace("", schema.NO_GENRES).str.split("|")
    return movies[["movie_id"]].assign(genre=split).explode("genre", ignore_index=True)
