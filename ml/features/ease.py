"""EASE: a linear item-to-item model.

Its weights are a dense matrix of items by items. Where there are more than ``MOST_ITEMS`` items, it is fitted on those
with the most rows, and scores the others 0: half of the items of a large catalog have a handful of ratings, from which
there is nothing to learn.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field
from scipy import sparse
from scipy.linalg import blas, lapack
from scipy.sparse.linalg import LinearOperator

from ml import schema

_OVERSAMPLING, _POWER_ITERATIONS = 10, 4
_BLOCK = 4096  # columns
MOST_ITEMS = 8192  # whose matrix takes 512 MiB


class EaseConfig(BaseModel, frozen=True, extra="forbid"):
    """Settings of a low-rank approximation of EASE's scores. Frozen; an unknown key is an error."""

    of: str = Field(
        default="likes",
        pattern="^(likes|ratings|values)$",
        description="Interactions that count: likes or ratings, 1 each, or ratings by their values.",
    )
    penalty: float = Field(default=500.0, gt=0, description="L2 penalty on the weights.")
    rank: int = Field(default=128, ge=1, description="Rank of the approximation.")

    @property
    def reads(self) -> tuple[str, ...]:
        """Columns of the training rows, besides user_id and movie_id."""
        return {"likes": (schema.LABEL,), "ratings": (), "values": ("rating",)}[self.of]


def seen_matrix(train: pd.DataFrame, users: int, movies: int, of: str = "likes") -> sparse.csr_array:
    """Return the interaction matrix, float64 [users, movies]: 1 for a rating, or a like, in the training rows, else 0.

    Args:
        train: indices user_id and movie_id, and what ``EaseConfig.reads`` names.
        users: number of users.
        movies: number of movies.
        of: ``likes``, ``ratings``, or ``values``, which divides each rating by the highest one.
    """
    rows = train[train[schema.LABEL] == 1] if of == "likes" else train
    cells = (rows["user_id"].to_numpy(), rows["movie_id"].to_numpy())
    values = rows["rating"].to_numpy(np.float64) / rows["rating"].max() if of == "values" else np.ones(len(rows))
    return sparse.csr_array((values, cells), shape=(users, movies))


def ease_weights(seen: sparse.csr_array, penalty: float) -> np.ndarray | LinearOperator:
    """Return the weights B, float64 [movies, movies], of the scores ``seen @ B``.

    B minimizes the squares of ``seen - seen @ B`` with an L2 penalty and a zero diagonal: with
    ``P = inv(seen' seen + penalty I)``, ``B[i, j] = -P[i, j] / P[j, j]`` (Steck, "Embarrassingly Shallow Autoencoders
    for Sparse Data", WWW 2019, equation 8).

    With fewer users than half the movies, B is given by its products: they only need an inverse of the users' size.
    """
    inverse = _Inverse.of(seen, penalty)
    if isinstance(inverse, _ByMovies):
        weights = -inverse.whole() / inverse.diagonal[:, 0]
        np.fill_diagonal(weights, 0)
        return weights
    diagonal = inverse.diagonal
    return LinearOperator(
        (seen.shape[1],) * 2,
        matvec=lambda right: right - inverse.times(right / diagonal.reshape(right.shape)),
        matmat=lambda right: right - inverse.times(right / diagonal),
        rmatmat=lambda left: left - inverse.times(left) / diagonal,
        dtype=np.float64,
    )


def most_rated(seen: sparse.csr_array) -> np.ndarray:
    """Return the columns that EASE is fitted on, ascending: those with cells, at most ``MOST_ITEMS``."""
    counts = np.bincount(seen.indices, minlength=seen.shape[1])
    first = np.argsort(-counts, kind="stable")[:MOST_ITEMS]
    return np.sort(first[counts[first] > 0])


class _Inverse(ABC):
    """``P = inv(seen' seen + penalty I)``, symmetric, [movies, movies].

    Attributes:
        diagonal: of P, float64 [movies, 1].
    """

    diagonal: np.ndarray

    @abstractmethod
    def times(self, right: np.ndarray) -> np.ndarray:
        """Return P @ right, for float64 [movies] or [movies, columns]."""

    @staticmethod
    def of(seen: sparse.csr_array, penalty: float) -> "_Inverse":
        """Return the inverse by that of the side that takes less work, with what is computed from it."""
        users, movies = seen.shape
        return _ByUsers(seen, penalty) if 2 * users < movies else _ByMovies(seen, penalty)


class _ByMovies(_Inverse):
    """By the inverse U of the Cholesky factor: ``P = U U'``."""

    def __init__(self, seen: sparse.csr_array, penalty: float) -> None:
        from ml.features.loops import lower_gram

        movies, by_movie = seen.shape[1], seen.T.tocsr()
        gram = np.zeros((movies, movies))
        lower_gram(seen.indptr, seen.indices, seen.data, by_movie.indptr, by_movie.indices, by_movie.data, gram)
        gram[np.diag_indices(movies)] += penalty
        self._factor = _inverted_factor(gram)
        self.diagonal = np.einsum("ij,ij->i", self._factor, self._factor)[:, None]

    def times(self, right: np.ndarray) -> np.ndarray:
        """See the base class."""
        half = blas.dtrmm(1, self._factor, right, trans_a=1)
        return blas.dtrmm(1, self._factor, half, overwrite_b=1)

    def whole(self) -> np.ndarray:
        """Return P, [movies, movies]."""
        upper, _ = lapack.dlauum(self._factor)
        return np.triu(upper) + np.triu(upper, 1).T


class _ByUsers(_Inverse):
    """``P = (I - seen' inv(seen seen' + penalty I) seen) / penalty`` (Woodbury)."""

    def __init__(self, seen: sparse.csr_array, penalty: float) -> None:
        users, movies = seen.shape
        self._seen, self._penalty = seen, penalty
        factor = _inverted_factor((seen @ seen.T).toarray() + penalty * np.eye(users))
        self._inner = factor @ factor.T
        self.diagonal = np.empty((movies, 1))
        for start in range(0, movies, _BLOCK):
            columns = seen[:, start : start + _BLOCK].toarray()
            self.diagonal[start : start + _BLOCK, 0] = (1 - (columns * (self._inner @ columns)).sum(axis=0)) / penalty

    def times(self, right: np.ndarray) -> np.ndarray:
        """See the base class."""
        return (right - self._seen.T @ (self._inner @ (self._seen @ right))) / self._penalty


def _inverted_factor(lower: np.ndarray) -> np.ndarray:
    """Return U, upper triangular, float64 [size, size], with ``U U' = inv(A)``.

    Args:
        lower: A, symmetric and positive definite; only the lower triangle is read. Overwritten.
    """
    factor, failed = lapack.dpotrf(lower.T, lower=0, clean=1, overwrite_a=1)  # LAPACK stores by columns
    factor, singular = lapack.dtrtri(factor, lower=0, overwrite_c=1)
    if failed or singular:
        raise np.linalg.LinAlgError("the matrix of co-occurrences plus penalty is not positive definite")
    return factor


def low_rank_ease(train: pd.DataFrame, users: int, movies: int, config: EaseConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return factors, float64 [users, rank] and [movies, rank], whose products approximate EASE's scores.

    The rank is less than the number of users and of ``most_rated`` movies. Arguments as for ``seen_matrix``.
    """
    seen = seen_matrix(train, users, movies, config.of)
    rank = min(config.rank, min(users, movies) - 1)
    start = np.random.default_rng(0).normal(size=(movies, rank + _OVERSAMPLING))
    known = most_rated(seen)
    user_factors, movie_factors = np.zeros((users, rank)), np.zeros((movies, rank))  # of those without a row
    if not known.size:
        return user_factors, movie_factors
    seen = seen[:, known]
    inverse = _Inverse.of(seen, config.penalty)

    def times(right: np.ndarray) -> np.ndarray:
        return seen @ np.ascontiguousarray(right - inverse.times(right / inverse.diagonal))

    def transposed_times(left: np.ndarray) -> np.ndarray:
        products = seen.T @ left
        return products - inverse.times(products) / inverse.diagonal

    left, right = _randomized_svd(times, transposed_times, start[known], rank)
    user_factors[:, : left.shape[1]], movie_factors[known, : right.shape[1]] = left, right
    return user_factors, movie_factors


def _randomized_svd(
    times: Callable[[np.ndarray], np.ndarray],
    transposed_times: Callable[[np.ndarray], np.ndarray],
    start: np.ndarray,
    rank: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return left singular vectors times singular values, and right ones, of a matrix known by its products only.

    Halko, Martinsson and Tropp, "Finding Structure with Randomness", SIAM Review 2011, algorithms 4.4 and 5.1. In
    float64, it is enough to orthonormalize after both products of an iteration.

    Args:
        times: returns the matrix times float64 [columns, n].
        transposed_times: returns the transposed matrix times float64 [rows, n].
        start: normal random numbers, [columns, more than rank].
        rank: how many singular vectors.
    """
    basis = start
    for _ in range(_POWER_ITERATIONS):
        basis = np.linalg.qr(transposed_times(times(basis)))[0]
    basis = np.linalg.qr(times(basis))[0]
    left, values, right = np.linalg.svd(transposed_times(basis).T, full_matrices=False)
    return (basis @ left * values)[:, :rank], right[:rank].T
