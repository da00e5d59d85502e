"""Rank the whole catalog with any model that scores every item."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from scipy import sparse


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
        block: users scored at a time.

    Returns:
        One row per listed item, by user and rank. Columns user_id (int32), rank (int16, from 1), movie_id (int32).

    Raises:
        ValueError: the scores' shape is not [n, items], or a score is NaN.
    """
    indices = [train_interactions[name].to_numpy() for name in ("user_id", "movie_id")]
    seen = sparse.csr_array((np.ones(len(train_interactions), bool), indices), shape=(users, movies))
    parts = []
    for start in range(0, users, block):
        own = np.arange(start, min(start + block, users))
        values = scores(own)
        if values.shape != (len(own), movies):
            raise ValueError(f"scores of shape {values.shape}; expected {(len(own), movies)}")
        if np.isnan(values).any():
            raise ValueError(f"NaN among the scores of users {own[0]} to {own[-1]}")
        row, rank, movie = _best(values, seen[own].toarray(), length)
        parts.append(pd.DataFrame({"user_id": own[row], "rank": rank, "movie_id": movie}))
    return pd.concat(parts, ignore_index=True).astype({"user_id": "int32", "rank": "int16", "movie_id": "int32"})


def _best(scores: np.ndarray, seen: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return row, rank and column (int) of each listed cell of scores and seen, [n, items], by row and rank."""
    masked = np.where(seen, -np.inf, scores)
    last = max(masked.shape[1] - length, 0)
    threshold = np.partition(masked, last, axis=1)[:, last]
    row, column = np.nonzero((masked >= threshold[:, None]) & ~seen)
    order = np.lexsort((column, -masked[row, column], row))
    rank = (
        np.arange(len(row)) - np.searchsorted(row, row) + 1
    )  # rows are already sorted, so the sort keeps them in place
    kept = rank <= length
    return row[kept], rank[kept], column[order][kept]
