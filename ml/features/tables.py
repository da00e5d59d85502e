"""Turn raw tables into preprocessed tables and labeled interactions."""

import numpy as np
import pandas as pd

from ml import schema


def preprocess_ratings(raw_ratings: pd.DataFrame, liked: float | None = schema.LIKED_RATING) -> pd.DataFrame:
    """Add the year, month (int8 1-12) and decade of each rating's timestamp in UTC, and its label; the order stays.

    ``label`` (int8) is 1 for a rating of at least ``liked``, else 0; None: 1 for every rating.
    """
    when = pd.to_datetime(raw_ratings["timestamp"], unit="s").dt
    return raw_ratings.assign(
        rating_year=when.year.astype(np.int16),
        rating_month=when.month.astype(np.int8),
        rating_decade=when.year.map({year: schema.decade_of(year) for year in when.year.unique()}),
        label=schema.likes(raw_ratings["rating"], liked).astype(np.int8),
    )


def join_interactions(users: pd.DataFrame, movies: pd.DataFrame, ratings: pd.DataFrame) -> pd.DataFrame:
    """Join every rating with its user's and its movie's columns, in the order of ``ratings``; the label comes last."""
    joined = ratings.merge(movies, on="movie_id", how="left", validate="many_to_one")
    joined = joined.merge(users, on="user_id", how="left", validate="many_to_one")
    return joined.assign(label=joined.pop(schema.LABEL))


def months_of(ratings: pd.DataFrame) -> list[str]:
    """Return all months from the first to the last rating, such as "2000-04", from rating_year and rating_month."""
    months = ratings["rating_year"].astype(int) * 12 + ratings["rating_month"] - 1
    return [f"{month // 12}-{month % 12 + 1:02d}" for month in range(months.min(), months.max() + 1)]


def latest_month(ratings: pd.DataFrame) -> tuple[int, int]:
    """Return year and month (1-12) of the latest rating, from rating_year and rating_month."""
    latest = (ratings["rating_year"].astype(int) * 12 + ratings["rating_month"] - 1).max()
    return int(latest // 12), int(latest % 12) + 1
