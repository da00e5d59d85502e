"""Baselines that rank the whole catalogue for a user.

Each is fitted once and then scores blocks of users, so that no users x movies matrix is ever dense. Training rows have
the indices user_id and movie_id, one row per pair, and label; a like is a row with label 1.
"""

from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
import pandas as pd
from implicit.als import AlternatingLeastSquares
from scipy import sparse
from threadpoolctl import threadpool_limits

from ml.features.ease import ease_weights, seen_matrix
from ml.features.factorization import Factorization, FactorizationConfig, factorize
from ml.models.baselines import movie_mean_scores


class CatalogueBaseline(Protocol):
    """Scores every movie for any user."""

    def scores(self, users: np.ndarray) -> np.ndarray:
        """Return scores, float64 [n, movies], for user indices int [n]; higher is better."""


@dataclass(frozen=True)
class Popularity:
    """A movie's number of likes, the same for every user.

    Attributes:
        likes: float64 [movies].
    """

    likes: np.ndarray

    @classmethod
    def fit(cls, train: pd.DataFrame, users: int, movies: int) -> Self:
        """Count the likes of each movie."""
        return cls(seen_matrix(train, users, movies).sum(axis=0))

    def scores(self, users: np.ndarray) -> np.ndarray:
        """Return numbers of likes, float64 [n, movies]."""
        return np.tile(self.likes, (len(users), 1))


@dataclass(frozen=True)
class MovieMean:
    """The probability that a movie is liked (see ``movie_mean_scores``), the same for every user.

    Attributes:
        means: float64 [movies].
    """

    means: np.ndarray

    @classmethod
    def fit(cls, train: pd.DataFrame, users: int, movies: int) -> Self:
        """Score each movie; one without training rows gets the mean of all labels."""
        return cls(movie_mean_scores(train, pd.DataFrame({"movie_id": np.arange(movies)})))

    def scores(self, users: np.ndarray) -> np.ndarray:
        """Return probabilities, float64 [n, movies]."""
        return np.tile(self.means, (len(users), 1))


@dataclass(frozen=True)
class MatrixFactorization:
    """Ratings predicted by a matrix factorization.

    Attributes:
        fitted: the model of ``ml.features.factorization``.
    """

    fitted: Factorization

    @classmethod
    def fit(cls, train: pd.DataFrame, users: int, movies: int, seed: int = 42) -> Self:
        """Fit with 15 factors, as ``factorization_scores`` does; ``train`` needs rating too."""
        return cls(factorize(train, users, movies, FactorizationConfig(seed=seed)))

    def scores(self, users: np.ndarray) -> np.ndarray:
        """Return predicted ratings, float64 [n, movies], equal to ``Factorization.predict``."""
        user, movie = self.fitted.users[users], self.fitted.movies
        return self.fitted.mean + user[:, :1] + movie[:, 0] + user[:, 1:] @ movie[:, 1:].T


@dataclass(frozen=True)
class ImplicitAls:
    """Matrix factorization of likes, with all other pairs as weak negatives (Hu, Koren and Volinsky, ICDM 2008).

    Attributes:
        users: float64 [users, factors]; zeros without likes.
        movies: float64 [movies, factors]; zeros without likes.
    """

    users: np.ndarray
    movies: np.ndarray

    @classmethod
    def fit(
        cls,
        train: pd.DataFrame,
        users: int,
        movies: int,
        factors: int = 64,
        alpha: float = 6.0,
        penalty: float = 0.017,
        iterations: int = 15,
        seed: int = 42,
    ) -> Self:
        """Fit with the ``implicit`` package, in float32 and on all cores; their number does not change the result.

        Args:
            train: the training rows.
            users: number of users.
            movies: number of movies.
            factors: width of a user's and a movie's vector.
            alpha: weight of a like; that of any other pair is 1.
            penalty: ridge penalty on every vector, times the root of users times movies: the errors grow with both.
            iterations: alternations.
            seed: of the uniform initial values.
        """
        likes = sparse.csr_matrix(seen_matrix(train, users, movies), dtype=np.float32)  # implicit warns about csr_array
        with threadpool_limits(1, "blas"):  # BLAS threads within implicit's threads slow it down
            model = AlternatingLeastSquares(
                factors=factors,
                alpha=alpha,
                regularization=penalty * (users * movies) ** 0.5,
                iterations=iterations,
                use_gpu=False,
                random_state=seed,
            )
            model.fit(likes, show_progress=False)
        return cls(model.user_factors.astype(np.float64), model.item_factors.astype(np.float64))

    def scores(self, users: np.ndarray) -> np.ndarray:
        """Return inner products, float64 [n, movies]; zeros for a user without likes."""
        return self.users[users] @ self.movies.T


@dataclass(frozen=True)
class Ease:
    """Linear item-to-item model of likes X with weights B, see ``ml.features.ease``.

    Attributes:
        likes: X, sparse float64 [users, movies].
        weights: B, float64 [movies, movies].
    """

    likes: sparse.csr_array
    weights: np.ndarray

    @classmethod
    def fit(cls, train: pd.DataFrame, users: int, movies: int, penalty: float = 500.0) -> Self:
        """Invert the movies' Gram matrix, dense [movies, movies].

        Args:
            train: the training rows.
            users: number of users.
            movies: number of movies.
            penalty: ridge penalty, above 0.

        Raises:
            ValueError: the penalty is 0 or less, so that the Gram matrix is singular if a movie has no likes.
        """
        if penalty <= 0:
            raise ValueError(f"penalty must be above 0, got {penalty}")
        likes = seen_matrix(train, users, movies)
        return cls(likes, ease_weights(likes, penalty))

    def scores(self, users: np.ndarray) -> np.ndarray:
        """Return ``X B``, float64 [n, movies]; zeros for a user without likes."""
        return self.likes[users] @ self.weights


@dataclass(frozen=True)
class ElsePopularity:
    """A personal baseline for users with likes, and popularity for all others.

    Attributes:
        personal: the baseline.
        popularity: for users without likes.
        has_likes: bool [users].
    """

    personal: CatalogueBaseline
    popularity: Popularity
    has_likes: np.ndarray

    def scores(self, users: np.ndarray) -> np.ndarray:
        """Return scores, float64 [n, movies], which are comparable within a user's row only."""
        return np.where(self.has_likes[users, None], self.personal.scores(users), self.popularity.scores(users))


def catalogue_baselines(train: pd.DataFrame, users: int, movies: int, seed: int) -> dict[str, CatalogueBaseline]:
    """Fit every baseline.

    Args:
        train: encoded training rows: user_id, movie_id, label, rating.
        users: number of users.
        movies: number of movies.
        seed: of the two factorizations.
    """
    popularity = Popularity.fit(train, users, movies)
    has_likes = seen_matrix(train, users, movies).sum(axis=1) > 0
    als, ease = ImplicitAls.fit(train, users, movies, seed=seed), Ease.fit(train, users, movies)
    return {
        "popularity": popularity,
        "movie_mean": MovieMean.fit(train, users, movies),
        "matrix_factorization": MatrixFactorization.fit(train, users, movies, seed=seed),
        "implicit_als": ElsePopularity(als, popularity, has_likes),
        "ease": ElsePopularity(ease, popularity, has_likes),
    }
