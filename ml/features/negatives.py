"""Training rows for the whole catalogue: likes, and movies that their users have not rated."""

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from ml import schema

SOURCE = "source"  # position, among the training rows, of the like that a row stems from


class NegativesConfig(BaseModel):
    """How unrated movies are drawn. Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    per_positive: int = Field(ge=1, description="Unrated movies drawn for each like.")
    popularity_power: float = Field(
        default=0.0, ge=0, le=1, description="A movie is drawn by its training ratings to this power; 0: all alike."
    )
    seed: int = Field(default=0, ge=0, description="Of the draws.")


def sample_negatives(
    train: pd.DataFrame, movie_codes: pd.DataFrame, config: NegativesConfig, among: np.ndarray | None = None
) -> pd.DataFrame:
    """Every like, followed by draws of movies that its user has no training row of, with replacement.

    Args:
        train: encoded training rows.
        movie_codes: codes of the movie fields, int32, one row a movie code.
        config: how many and which.
        among: int [n], positions of the training rows whose likes are wanted; default: all. The draws avoid what a user
            has rated in any training row.

    Returns:
        Columns of ``train``, and ``source`` (int64), the like's position there. A drawn row has the like's user and
        context with the drawn movie's fields, label and rating 0. Likes come in the order of ``train``, or of
        ``among``; those whose user has rated every movie are left out.
    """
    among = np.arange(len(train)) if among is None else among
    likes = among[train[schema.LABEL].to_numpy()[among] == 1]
    users = train["user_id"].to_numpy()
    rated = np.bincount(users, minlength=users.max() + 1)
    likes = likes[rated[users[likes]] < len(movie_codes)]
    source = np.repeat(likes, 1 + config.per_positive)
    drawn = np.arange(len(source)) % (1 + config.per_positive) != 0
    rows = train.iloc[source].reset_index(drop=True).assign(**{SOURCE: source})
    movies = _draw_unrated(train, users[source[drawn]], len(movie_codes), config)
    for name in movie_codes.columns:
        rows.loc[drawn, name] = movie_codes[name].to_numpy()[movies]
    rows.loc[drawn, [schema.LABEL, "rating"]] = 0
    return rows


def _draw_unrated(train: pd.DataFrame, users: np.ndarray, movies: int, config: NegativesConfig) -> np.ndarray:
    """A movie for each of the users, int64 [n], that the user has no training row of."""
    rng = np.random.default_rng(config.seed)
    counts = np.bincount(train["movie_id"], minlength=movies)
    bounds = np.cumsum(np.maximum(counts, 1).astype(np.float64) ** config.popularity_power)
    rated = np.unique(train["user_id"].to_numpy(np.int64) * movies + train["movie_id"].to_numpy())
    found = np.empty(len(users), np.int64)
    open_ = np.arange(len(users))
    while open_.size:  # draws that hit a rated movie are repeated
        found[open_] = np.searchsorted(bounds, rng.random(len(open_)) * bounds[-1], side="right")
        pairs = users[open_].astype(np.int64) * movies + found[open_]
        at = np.minimum(np.searchsorted(rated, pairs), len(rated) - 1)
        open_ = open_[rated[at] == pairs]
    return found
