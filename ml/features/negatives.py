"""Sample negatives: training rows of likes, and of movies that the same users have not rated."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field

from ml import schema
from ml.data.blocks import BLOCK_ROWS
from ml.data.mapped import fill, mapped_array, mapped_table

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
    train: pd.DataFrame,
    movie_indices: pd.DataFrame,
    config: NegativesConfig,
    among: np.ndarray | None = None,
    scratch: Path | None = None,
) -> pd.DataFrame:
    """Return every like, each followed by movies that its user has not rated, drawn with replacement.

    Args:
        train: encoded training rows.
        movie_indices: indices of the movie features, int32, one row per movie, in index order.
        config: how many and which.
        among: int [n], positions of the training rows whose likes are used; default: all. Movies that a user has rated
            in any training row are never drawn.
        scratch: where the rows are kept if they are many, see ``ml.data.mapped``.

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
    drawn = _draw_unrated(train, users[likes], len(movie_indices), config, scratch)
    size = 1 + config.per_positive
    blocks = _rows(train, movie_indices, likes, drawn)
    return mapped_table(blocks, size * len(likes), scratch)


def _rows(
    train: pd.DataFrame, movie_indices: pd.DataFrame, likes: np.ndarray, drawn: np.ndarray
) -> Iterator[pd.DataFrame]:
    """Return each like and its drawn movies, int32 [likes, movies], in blocks."""
    size = 1 + drawn.shape[1]
    for start in range(0, max(len(likes), 1), BLOCK_ROWS // size):
        own = slice(start, start + BLOCK_ROWS // size)
        source, movies = np.repeat(likes[own], size), drawn[own].ravel()
        rows = train.iloc[source].reset_index(drop=True).assign(**{SOURCE: source})
        is_drawn = np.arange(len(source)) % size != 0
        for name in movie_indices.columns:
            rows.loc[is_drawn, name] = movie_indices[name].to_numpy()[movies]
        rows.loc[is_drawn, [schema.LABEL, "rating"]] = 0
        yield rows


def _draw_unrated(
    train: pd.DataFrame, users: np.ndarray, movies: int, config: NegativesConfig, scratch: Path | None
) -> np.ndarray:
    """Draw movies for each user, int32 [n, per_positive], that the user has not rated."""
    rng = np.random.default_rng(config.seed)
    counts = np.bincount(train["movie_id"], minlength=movies)
    bounds = np.cumsum(np.maximum(counts, 1).astype(np.float64) ** config.popularity_power)
    rated = np.unique(train["user_id"].to_numpy(np.int64) * movies + train["movie_id"].to_numpy())
    found = mapped_array((len(users), config.per_positive), np.int32, scratch)

    def draw(count: int) -> np.ndarray:
        return np.searchsorted(bounds, rng.random(count) * bounds[-1], side="right")

    def is_rated(owners: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        pairs = owners.astype(np.int64) * movies + drawn
        at = np.minimum(np.searchsorted(rated, pairs), len(rated) - 1)
        hits: np.ndarray = rated[at] == pairs
        return hits

    again = [np.empty(0, np.int64)]  # places in ``found.ravel()`` that are drawn once more

    def first(own: slice) -> np.ndarray:
        owners = np.repeat(users[own], config.per_positive)
        drawn = draw(len(owners))
        again.append(own.start * config.per_positive + np.flatnonzero(is_rated(owners, drawn)))
        return drawn.reshape(-1, config.per_positive)

    fill(found, BLOCK_ROWS, first)
    flat, open_ = found.reshape(-1), np.concatenate(again)
    while open_.size:
        flat[open_] = draw(len(open_))
        open_ = open_[is_rated(users[open_ // config.per_positive], flat[open_])]
    return found
