"""Sample negatives: training rows of likes, and of movies that the same users have not rated."""

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field

from ml import schema

SOURCE = "source"  # column: position, among the training rows, of the like that a row was made from


class NegativesConfig(BaseModel, frozen=True, extra="forbid"):
    """How unrated movies are sampled. Frozen; an unknown key is an error."""

    per_positive: int = Field(ge=1, description="Unrated movies sampled for each like.")
    popularity_power: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="A movie's weight is its training ratings to this power; 0: all equal.",
    )
    seed: int = Field(default=0, ge=0, description="Of the sampling.")


def sample_negatives(
    train: pd.DataFrame, movie_indices: pd.DataFrame, config: NegativesConfig, among: np.ndarray | None = None
) -> pd.DataFrame:
    """Return every like, each followed by movies that its user has not rated, drawn with replacement.

    Args:
        train: encoded training rows.
        movie_indices: indices of the movie features, int32, one row per movie, in index order.
        config: how many and which.
        among: int [n], positions of the training rows whose likes are used; default: all. Movies that a user has rated
            in any training row are never drawn.

    Returns:
        Columns of ``train``, and ``source`` (int64), the like's position there. A drawn row has the like's user and
        context, the drawn movie's features, and label and rating 0. Likes keep the order of ``train``, or of ``among``;
        those of a user who has rated every movie are left out.
    """
    among = np.arange(len(train)) if among is None else among
    likes = among[train[schema.LABEL].to_numpy()[among] == 1]
    users = train["user_id"].to_numpy()
    rated = np.bincount(users, minlength=users.max() + 1)
    likes = likes[rated[users[likes]] < len(movie_indices)]
    source = np.repeat(likes, 1 + config.per_positive)
    drawn = np.arange(len(source)) % (1 + config.per_positive) != 0
    rows = train.iloc[source].reset_index(drop=True).assign(**{SOURCE: source})
    movies = _draw_unrated(train, users[source[drawn]], len(movie_indices), config)
    for name in movie_indices.columns:
        rows.loc[drawn, name] = movie_indices[name].to_numpy()[movies]
    rows.loc[drawn, [schema.LABEL, "rating"]] = 0
    return rows


def _draw_unrated(train: pd.DataFrame, users: np.ndarray, movies: int, config: NegativesConfig) -> np.ndarray:
    """Draw a movie for each user, int64 [n], that the user has not rated."""
    rng = np.random.default_rng(config.seed)
    counts = np.bincount(train["movie_id"], minlength=movies)
    bounds = np.cumsum(np.maximum(counts, 1).astype(np.float64) ** config.popularity_power)
    rated = np.unique(train["user_id"].to_numpy(np.int64) * movies + train["movie_id"].to_numpy())
    found = np.empty(len(users), np.int64)
    open_ = np.arange(len(users))
    while open_.size:  # redraw rated movies
        found[open_] = np.searchsorted(bounds, rng.random(len(open_)) * bounds[-1], side="right")
        pairs = users[open_].astype(np.int64) * movies + found[open_]
        at = np.minimum(np.searchsorted(rated, pairs), len(rated) - 1)
        open_ = open_[rated[at] == pairs]
    return found
