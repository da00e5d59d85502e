"""Implicit feedback: who rated what, whatever the ratings, at a low rank."""

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.utils.extmath import randomized_svd

from ml.features.ease import seen_matrix

_POWERS = (0.5, 0.25)


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
    rated = seen_matrix(train, *shape, of="ratings")
    if min(rank, min(shape) - 1) < 1:
        return np.zeros((shape[0], 0)), np.zeros((shape[1], 0))
    users, movies = (scaled_svd(table, rank, _POWERS) for table in (rated, rated.T.tocsr()))
    return users[0] * users[1], movies[0] * movies[1]


def scaled_svd(
    rated: sparse.csr_array, rank: int, powers: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the singular value decomposition of a matrix whose cells are divided by powers of counts.

    So active users and popular movies do not dominate.

    Args:
        rated: 1 for a rating, else 0, [rows, columns].
        rank: less where there are fewer rows or columns.
        powers: of the count of a cell's row, and of its column.

    Returns:
        Left singular vectors float64 [rows, rank], singular values [rank], right singular vectors [rank, columns].
    """
    own, other = (np.maximum(rated.sum(axis=axis), 1) for axis in (1, 0))
    scaled = rated.multiply(own[:, None] ** -powers[0]).multiply(other[None, :] ** -powers[1]).tocsr()
    return randomized_svd(scaled, min(rank, min(scaled.shape) - 1), random_state=0)
