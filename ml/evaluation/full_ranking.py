"""Rank the whole catalog with any model that scores every item."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import sparse

from ml.inference.engine.top_k import best_columns

_CELLS = 2**24  # scores in memory at a time


def top_lists(
    scores: Callable[[np.ndarray], np.ndarray],
    train_interactions: pd.DataFrame,
    users: int,
    movies: int,
    length: int = 10,
    block: int = 512,
) -> pd.DataFrame:
    """Return each user's best items among those without a training row by the user, whatever its label.

    Lists are sorted by decreasing score; ties by increasing item index.

    Args:
        scores: returns the scores [n, items] of user indices int [n]; higher is better.
        train_interactions: encoded training rows: user_id, movie_id.
        users: number of users; each gets a list.
        movies: number of items.
        length: items per list; fewer if the user has fewer unseen items.
        block: users scored at a time, at most; fewer of many items.

    Returns:
        One row per listed item, by user and rank. Columns user_id (int32), rank (int16, from 1), movie_id (int32).

    Raises:
        ValueError: the scores' shape is not [n, items], or a score is NaN.
    """
    indices = [train_interactions[name].to_numpy() for name in ("user_id", "movie_id")]
    seen = sparse.csr_array((np.ones(len(train_interactions), bool), indices), shape=(users, movies))
    parts = []
    block = max(min(block, _CELLS // movies), 1)
    for start in range(0, users, block):
        own = np.arange(start, min(start + block, users))
        values = scores(own)
        if values.shape != (len(own), movies):
            raise ValueError(f"scores of shape {values.shape}; expected {(len(own), movies)}")
        if np.isnan(values).any():
            raise ValueError(f"NaN among the scores of users {own[0]} to {own[-1]}")
        row, rank, movie = best_columns(values, seen[own].toarray(), length)
        parts.append(pd.DataFrame({"user_id": own[row], "rank": rank + 1, "movie_id": movie}))
    return pd.concat(parts, ignore_index=True).astype({"user_id": "int32", "rank": "int16", "movie_id": "int32"})
