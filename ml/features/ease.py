"""EASE: a linear item-to-item model."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field
from scipy import sparse
from scipy.sparse.linalg import LinearOperator

from ml import schema

_OVERSAMPLING, _POWER_ITERATIONS = 10, 4
_BLOCK = 4096  # columns


class EaseConfig(BaseModel, frozen=True, extra="forbid"):
    """Settings of a low-rank approximation of EASE's scores. Frozen; an unknown key is an error."""

    of: str = Field(
        default="likes", pattern="^(likes|ratings)$", description="Interactions that count: likes or ratings."
    )
    penalty: float = Field(default=500.0, gt=0, description="L2 penalty on the weights.")
    rank: int = Field(default=128, ge=1, description="Rank of the approximation.")


def seen_matrix(train: pd.DataFrame, users: int, movies: int, of: str = "likes") -> sparse.csr_array:
    """Return the interaction matrix, float64 [users, movies]: 1 for a rating, or a like, in the training rows, else 0.

    Args:
        train: indices user_id and movie_id, and label.
        users: number of users.
        movies: number of movies.
        of: ``likes`` or ``ratings``.
    """
    rows = train[train[schema.LABEL] == 1] if of == "likes" else train
    cells = (rows["user_id"].to_numpy(), rows["movie_id"].to_numpy())
    return sparse.csr_array((np.ones(len(rows)), cells), shape=(users, movies))


def ease_weights(seen: sparse.csr_array, penalty: float) -> np.ndarray | LinearOperator:
    """Return the weights B, float64 [movies, movies], of the scores ``seen @ B``.

    B minimizes the squares of ``seen - seen @ B`` with an L2 penalty and a zero diagonal: with
    ``P = inv(seen' seen + penalty I)``, ``B[i, j] = -P[i, j] / P[j, j]`` (Steck, "Embarrassingly Shallow Autoencoders
    for Sparse Data", WWW 2019, equation 8).

    With fewer users than movies, B is given by its products: they only need an inverse of the users' size.
    """
    users, movies = seen.shape
    return _weights_by_users(seen, penalty) if users < movies else _weights_by_movies(seen, penalty)


def _weights_by_movies(seen: sparse.csr_array, penalty: float) -> np.ndarray:
    gram = (seen.T @ seen).toarray()
    gram[np.diag_indices_from(gram)] += penalty
    inverse = np.linalg.inv(gram)
    weights: np.ndarray = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def _weights_by_users(seen: sparse.csr_array, penalty: float) -> LinearOperator:
    """``P = (I - seen' inv(seen seen' + penalty I) seen) / penalty`` (Woodbury), and ``B = I - P / diag(P)``."""
    users, movies = seen.shape
    inner = np.linalg.inv((seen @ seen.T).toarray() + penalty * np.eye(users))
    diagonal = np.empty((movies, 1))
    for start in range(0, movies, _BLOCK):
        columns = seen[:, start : start + _BLOCK].toarray()
        diagonal[start : start + _BLOCK, 0] = (1 - (columns * (inner @ columns)).sum(axis=0)) / penalty

    def inverse_times(right: np.ndarray) -> np.ndarray:
        return (right - seen.T @ (inner @ (seen @ right))) / penalty

    return LinearOperator(
        (movies, movies),
        matvec=lambda right: right - inverse_times(right / diagonal.reshape(right.shape)),
        matmat=lambda right: right - inverse_times(right / diagonal),
        rmatmat=lambda left: left - inverse_times(left) / diagonal,
        dtype=np.float64,
    )


def low_rank_ease(train: pd.DataFrame, users: int, movies: int, config: EaseConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return factors, float64 [users, rank] and [movies, rank], whose products approximate EASE's scores.

    The rank is less than the number of users and of movies. Arguments as for ``seen_matrix``.
    """
    seen = seen_matrix(train, users, movies, config.of)
    weights = ease_weights(seen, config.penalty)
    rank = min(config.rank, min(users, movies) - 1)
    return _randomized_svd(
        lambda right: seen @ (weights @ right), lambda left: weights.T @ (seen.T @ left), movies, rank
    )


def _randomized_svd(
    times: Callable[[np.ndarray], np.ndarray],
    transposed_times: Callable[[np.ndarray], np.ndarray],
    columns: int,
    rank: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return left singular vectors times singular values, and right ones, of a matrix known by its products only.

    Halko, Martinsson and Tropp, "Finding Structure with Randomness", SIAM Review 2011, algorithms 4.4 and 5.1.
    """
    basis = np.random.default_rng(0).normal(size=(columns, rank + _OVERSAMPLING))
    for _ in range(_POWER_ITERATIONS):
        basis = np.linalg.qr(transposed_times(np.linalg.qr(times(basis))[0]))[0]
    basis = np.linalg.qr(times(basis))[0]
    left, values, right = np.linalg.svd(transposed_times(basis).T, full_matrices=False)
    return (basis @ left * values)[:, :rank], right[:rank].T
