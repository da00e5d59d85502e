"""Compute the data report's statistics: small tables, ready to draw."""

from typing import Any

import numpy as np
import pandas as pd

from ml import schema
from ml.data.movielens_tables import has_codes

FEW_RATINGS = 10
_TOP_SHARES = (0.01, 0.1, 0.2)


def totals(users: pd.DataFrame, movies: pd.DataFrame, ratings: pd.DataFrame) -> dict[str, float]:
    """Compute totals of the preprocessed tables; there must be at least one rating.

    Returns:
        By name: users, movies, ratings: number of rows of each table. rated_movies: number of movies with a rating.
        mean_rating: mean of all ratings. like_share: share of ratings that are likes. density: number of ratings
        divided by (users times rated movies). median_of_user, median_of_movie: median number of ratings per user with a
        rating, and per rated movie. rarely_rated: number of rated movies with fewer than ``FEW_RATINGS`` ratings.
    """
    of_movie, of_user = (ratings[name].value_counts() for name in ("movie_id", "user_id"))
    return {
        "users": len(users),
        "movies": len(movies),
        "ratings": len(ratings),
        "rated_movies": len(of_movie),
        "mean_rating": float(ratings["rating"].mean()),
        "like_share": float(ratings[schema.LABEL].mean()),
        "density": len(ratings) / (len(users) * len(of_movie)),
        "median_of_user": float(of_user.median()),
        "median_of_movie": float(of_movie.median()),
        "rarely_rated": int((of_movie < FEW_RATINGS).sum()),
    }


def rating_distribution(ratings: pd.DataFrame) -> pd.Series:
    """Count the ratings by value."""
    return ratings["rating"].value_counts().sort_index()


def movies_by_genre(movies: pd.DataFrame) -> pd.Series:
    """Count the movies by genre, largest first; a movie counts in each of its genres."""
    return _genres(movies)["genre"].value_counts().sort_values(ascending=False, kind="stable")


def movies_by_year(movies: pd.DataFrame) -> pd.Series:
    """Count the movies by release year, those that have one."""
    years = movies["movie_year"]
    return years[years != schema.NO_YEAR].value_counts().sort_index()


def ratings_by_genre(movies: pd.DataFrame, ratings: pd.DataFrame) -> pd.DataFrame:
    """Return ratings and mean_rating by genre, most rated first; a rating counts in each genre of its movie."""
    joined = ratings[["movie_id", "rating"]].merge(_genres(movies), on="movie_id")
    grouped = joined.groupby("genre")["rating"]
    found = pd.DataFrame({"ratings": grouped.size(), "mean_rating": grouped.mean()})
    return found.sort_values("ratings", ascending=False, kind="stable")


def likes_by_decade(movies: pd.DataFrame, ratings: pd.DataFrame) -> pd.DataFrame:
    """Return ratings and like_share by release decade."""
    joined = ratings[["movie_id", schema.LABEL]].merge(movies[["movie_id", "movie_decade"]], on="movie_id")
    return _likes_by(joined, joined["movie_decade"])


def ratings_by_month(ratings: pd.DataFrame) -> pd.DataFrame:
    """Return ratings, like_share and new_users (with their first rating) by month, ``YYYY-MM``, without gaps."""
    months = pd.to_datetime(ratings["timestamp"], unit="s").dt.to_period("M")
    found = _likes_by(ratings, months)
    firsts = months.groupby(ratings["user_id"]).min().value_counts()
    whole = pd.period_range(months.min(), months.max(), freq="M")
    table = found.reindex(whole).assign(new_users=firsts.reindex(whole))
    table[["ratings", "new_users"]] = table[["ratings", "new_users"]].fillna(0).astype(int)
    return table.set_axis(whole.astype(str))


def share_in_one_month(ratings: pd.DataFrame) -> float:
    """Return the share of users with ratings whose ratings are all from one month."""
    months = pd.to_datetime(ratings["timestamp"], unit="s").dt.to_period("M")
    of_user = months.groupby(ratings["user_id"])
    return float((of_user.min() == of_user.max()).mean())


def users_by(users: pd.DataFrame, field: str) -> pd.Series:
    """Count the users by gender, age or occupation, with readable names."""
    names: dict[str, dict[Any, str]] = {"age": schema.AGE_GROUPS, "occupation": dict(enumerate(schema.OCCUPATIONS))}
    own = names.get(field, {}) if has_codes(users) else {}
    counts = users[field].value_counts().sort_index()
    return counts.set_axis([str(own.get(value, value)) for value in counts.index])


def long_tail(ratings: pd.DataFrame, column: str) -> np.ndarray:
    """Return the number of ratings of each movie or user, largest first, int [movies or users]."""
    counts: np.ndarray = ratings[column].value_counts().to_numpy()
    return counts


def top_shares(counts: np.ndarray) -> dict[float, float]:
    """Return the share of all ratings of the top 1, 10 and 20 %; ``counts`` is sorted, largest first."""
    return {share: float(counts[: max(round(share * len(counts)), 1)].sum() / counts.sum()) for share in _TOP_SHARES}


def shares_of_the_top(counts: np.ndarray) -> pd.Series:
    """Return the cumulative % of the ratings, indexed by the top % of movies or users; ``counts`` is sorted."""
    found = np.concatenate([[0], np.cumsum(counts)]) / counts.sum()
    return pd.Series(100 * found, index=100 * np.linspace(0, 1, len(found)))


def _likes_by(ratings: pd.DataFrame, group: pd.Series) -> pd.DataFrame:
    grouped = ratings[schema.LABEL].groupby(group.to_numpy())
    return pd.DataFrame({"ratings": grouped.size(), "like_share": grouped.mean()})


def _genres(movies: pd.DataFrame) -> pd.DataFrame:
    """Return movie_id and genre, one row for each genre of a movie."""
    split = movies["genres"].replace("", schema.NO_GENRES).str.split("|")
    return movies[["movie_id"]].assign(genre=split).explode("genre", ignore_index=True)
