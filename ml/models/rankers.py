"""Baselines that rank the whole catalogue for a user.

Each is fitted once and then scores blocks of users, so that no users x movies matrix is ever dense. Training rows have
the indices user_id and movie_id, one row per pair, and label; a like is a row with label 1.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
from implicit.als import AlternatingLeastSquares
from scipy import sparse
from threadpoolctl import threadpool_limits

from ml.features.ease import ease_weights, most_rated, seen_matrix
from ml.features.factorization import FactorizationConfig, factorize
from ml.models.baselines import movie_mean_scores

# A fitted baseline returns scores, float64 [n, movies], for user indices int [n]; higher is better.
CatalogueBaseline = Callable[[np.ndarray], np.ndarray]
# Of implicit ALS. A like has the weight alpha, any other pair 1; the ridge penalty on every vector is multiplied by the
# root of users times movies, since the errors grow with both.
_FACTORS, _ALPHA, _PENALTY, _ITERATIONS = 64, 6.0, 0.017, 15
_EASE_PENALTY = 500.0


def popularity(train: pd.DataFrame, users: int, movies: int) -> CatalogueBaseline:
    """Score a movie by its number of likes, the same for every user."""
    return _same_for_all(seen_matrix(train, users, movies).sum(axis=0))


def movie_mean(train: pd.DataFrame, users: int, movies: int) -> CatalogueBaseline:
    """Score a movie by the probability that it is liked, the same for every user; see ``movie_mean_scores``.

    A movie without training rows gets the mean of all labels.
    """
    return _same_for_all(movie_mean_scores(train, pd.DataFrame({"movie_id": np.arange(movies)})))


def matrix_factorization(train: pd.DataFrame, users: int, movies: int, seed: int = 42) -> CatalogueBaseline:
    """Predict ratings with 15 factors, as ``factorization_scores`` does; ``train`` needs rating too."""
    fitted = factorize(train, users, movies, FactorizationConfig(seed=seed))

    def scores(chosen: np.ndarray) -> np.ndarray:
        user, movie = fitted.users[chosen], fitted.movies
        return fitted.mean + user[:, :1] + movie[:, 0] + user[:, 1:] @ movie[:, 1:].T

    return scores


def implicit_als(train: pd.DataFrame, users: int, movies: int, seed: int = 42) -> CatalogueBaseline:
    """Score by inner products of the factors of likes; zeros for a user or a movie without likes."""
    user_factors, movie_factors = implicit_factors(train, users, movies, seed)
    return lambda chosen: user_factors[chosen] @ movie_factors.T


def implicit_factors(train: pd.DataFrame, users: int, movies: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Factorize likes, with all other pairs as weak negatives (Hu, Koren and Volinsky, ICDM 2008).

    The ``implicit`` package computes in float32 and on all cores; their number does not change the result.

    Args:
        train: the training rows.
        users: number of users.
        movies: number of movies.
        seed: of the uniform initial values.

    Returns:
        float64 [users, factors] and [movies, factors].
    """
    likes = sparse.csr_matrix(seen_matrix(train, users, movies), dtype=np.float32)  # implicit warns about csr_array
    with threadpool_limits(1, "blas"):  # BLAS threads within implicit's threads slow it down
        model = AlternatingLeastSquares(
            factors=_FACTORS,
            alpha=_ALPHA,
            regularization=_PENALTY * (users * movies) ** 0.5,
            iterations=_ITERATIONS,
            use_gpu=False,
            random_state=seed,
        )
        model.fit(likes, show_progress=False)
    return model.user_factors.astype(np.float64), model.item_factors.astype(np.float64)


def ease(train: pd.DataFrame, users: int, movies: int) -> CatalogueBaseline:
    """Score by the linear item-to-item model of ``ml.features.ease``; zeros for a user without likes."""
    likes = seen_matrix(train, users, movies)
    known = most_rated(likes)
    likes = likes[:, known]
    weights = ease_weights(likes, _EASE_PENALTY) if len(known) else np.zeros((0, 0))

    def scores(chosen: np.ndarray) -> np.ndarray:
        found = np.zeros((len(chosen), movies))
        found[:, known] = likes[chosen] @ weights
        return found

    return scores


def catalogue_baselines(train: pd.DataFrame, users: int, movies: int, seed: int) -> dict[str, CatalogueBaseline]:
    """Fit every baseline; users without likes get the popularity from those that need likes.

    Args:
        train: encoded training rows: user_id, movie_id, label, rating.
        users: number of users.
        movies: number of movies.
        seed: of the two factorizations.
    """
    popular = popularity(train, users, movies)
    has_likes = seen_matrix(train, users, movies).sum(axis=1) > 0

    def else_popular(personal: CatalogueBaseline) -> CatalogueBaseline:
        return lambda chosen: np.where(has_likes[chosen, None], personal(chosen), popular(chosen))

    return {
        "popularity": popular,
        "movie_mean": movie_mean(train, users, movies),
        "matrix_factorization": matrix_factorization(train, users, movies, seed),
        "implicit_als": else_popular(implicit_als(train, users, movies, seed)),
        "ease": else_popular(ease(train, users, movies)),
    }


def _same_for_all(scores: np.ndarray) -> CatalogueBaseline:
    return lambda chosen: np.tile(scores, (len(chosen), 1))
