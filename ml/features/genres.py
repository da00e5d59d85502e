"""How alike movies are by their genres."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def genre_sets(genres: Sequence[str] | pd.Series) -> np.ndarray:
    """Which genres each movie has, float32 [movies, distinct genres] of 0 and 1.

    Args:
        genres: of each movie, joined by ``|``; empty for none.
    """
    flags = pd.Series(genres, dtype="str").str.get_dummies("|").drop(columns="", errors="ignore")
    return flags.to_numpy(np.float32)


def jaccard(sets: np.ndarray) -> np.ndarray:
    """Jaccard similarity of all pairs of movies: shared genres divided by those that either has; 0 without any.

    Args:
        sets: float32 [..., movies, genres] of 0 and 1.

    Returns:
        Float32 [..., movies, movies].
    """
    shared = sets @ np.swapaxes(sets, -1, -2)
    sizes = sets.sum(axis=-1)
    either = sizes[..., :, None] + sizes[..., None, :] - shared
    similarity: np.ndarray = shared / np.maximum(either, 1)
    return similarity
