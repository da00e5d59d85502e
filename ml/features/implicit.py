"""Implicit feedback: who rated what, whatever the ratings, at a low rank."""

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.sparse.linalg import svds

_OWN, _OTHER = 0.5, 0.25  # powers of the counts of a row and of a column that cells are divided by


def implicit_factors(train: pd.DataFrame, shape: tuple[int, int], rank: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what users and movies have rated or been rated by, float64 [users, rank] and [movies, rank].

    The left singular vectors times singular values of the matrix of 1 for a rating, else 0, whose cells are divided by
    powers of the counts of their row (1/2, as in SVD++: Koren, KDD 2008) and of their column (1/4), once with a row for
    each user, once for each movie.

    Args:
        train: indices user_id and movie_id.
        shape: numbers of users and of movies.
        rank: less where there are fewer users or movies.
    """
    cells = (train["user_id"].to_numpy(), train["movie_id"].to_numpy())
    rated = sparse.csr_array((np.ones(len(train)), cells), shape=shape)
    rank = min(rank, min(shape) - 1)
    if rank < 1:
        return np.zeros((shape[0], 0)), np.zeros((shape[1], 0))
    return _factors(rated, rank), _factors(rated.T.tocsr(), rank)


def _factors(rated: sparse.csr_array, rank: int) -> np.ndarray:
    own, other = (np.maximum(rated.sum(axis=axis), 1) for axis in (1, 0))
    scaled = rated.multiply(own[:, None] ** -_OWN).multiply(other[None, :] ** -_OTHER).tocsr()
    start = np.random.default_rng(0).normal(size=min(scaled.shape))  # the iteration converges from any
    left, values, _ = svds(scaled, k=rank, v0=start)
    return left * values
