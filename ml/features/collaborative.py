"""Collaborative features: what the training ratings tell about a pair of user and movie.

Every feature is an inner product of a user's and a movie's vector: predictions of matrix factorizations, EASE's scores
at a low rank, how likely the user is to rate the movie at all, the user's preference for the movie's genre, means and
counts of user and movie. So two tables hold them all, and the features of any pair follow from its indices.

A training row's own rating must not influence its features: they are computed out of fold, from tables fitted on the
rows of the other folds. All other rows use tables fitted on all training rows.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field
from scipy import sparse
from scipy.sparse.linalg import svds

from ml import schema
from ml.features.ease import EaseConfig, low_rank_ease, seen_matrix
from ml.features.factorization import FactorizationConfig, factorize

_SIDES = ("user_id", "movie_id")


class CollaborativeConfig(BaseModel, frozen=True, extra="forbid"):
    """Which collaborative features a network has. Frozen; an unknown key is an error."""

    factorizations: dict[str, FactorizationConfig] = Field(
        default={}, description="Matrix factorizations, each by the name of the feature that is its prediction."
    )
    ease: dict[str, EaseConfig] = Field(default={}, description="EASE models, each by the name of its feature.")
    exposure_factors: int = Field(
        default=0, ge=0, description="Rank of the approximation of who rated which movie; 0: no such feature."
    )
    affinity_fields: tuple[str, ...] = Field(
        default=(),
        description="Movie features by whose values a user's deviations from the movies' means are averaged.",
    )
    affinity_prior_rows: float = Field(default=10.0, gt=0, description="Rows without deviation in such an average.")
    prior_rows: float = Field(default=5.0, gt=0, description="Rows with the average rating in a mean of ratings.")
    folds: int = Field(default=5, ge=2, description="Folds of the training rows.")


@dataclass(frozen=True)
class CollaborativeTables:
    """Collaborative features of all pairs: ``feature[f] = sum over the columns of f of users[u] * movies[m]``.

    Attributes:
        names: of the features.
        widths: number of columns of each feature; a feature's columns are adjacent.
        users: float32 [users, columns].
        movies: float32 [movies, columns].
    """

    names: tuple[str, ...]
    widths: tuple[int, ...]
    users: np.ndarray
    movies: np.ndarray

    def of(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the features, float32 [rows, features], of rows with the indices user_id and movie_id."""
        products = self.users[rows["user_id"]] * self.movies[rows["movie_id"]]
        starts = np.cumsum([0, *self.widths[:-1]])
        return np.add.reduceat(products, starts, axis=1)


_Part = tuple[np.ndarray, np.ndarray]  # a feature's columns in the users' and in the movies' table


def fit_collaborative(train: pd.DataFrame, users: int, movies: int, config: CollaborativeConfig) -> CollaborativeTables:
    """Fit the tables of the collaborative features.

    Args:
        train: indices user_id and movie_id, rating, label, and the affinity features.
        users: number of users.
        movies: number of movies.
        config: which features.
    """
    shape = (users, movies)
    parts: dict[str, _Part] = {}
    for name, settings in config.factorizations.items():
        fitted = factorize(train, users, movies, settings)
        bias, ones = fitted.users[:, :1] + fitted.mean, np.ones((users, 1))
        user = np.hstack([bias, ones, fitted.users[:, 1:]])
        parts[name] = user, np.hstack([np.ones((movies, 1)), fitted.movies])
    parts |= {name: low_rank_ease(train, users, movies, settings) for name, settings in config.ease.items()}
    if config.exposure_factors:
        parts["exposure"] = _exposure(train, shape, config.exposure_factors)
    parts |= _affinities(train, shape, config)
    for side, (own, other) in zip(_SIDES, (shape, shape[::-1]), strict=True):
        for what, values in _side_statistics(train, side, own, config.prior_rows).items():
            part = values[:, None], np.ones((other, 1))
            parts[f"{side.removesuffix('_id')}_{what}"] = part if side == "user_id" else part[::-1]
    widths = tuple(user.shape[1] for user, _ in parts.values())
    tables = (np.hstack(side).astype(np.float32) for side in zip(*parts.values(), strict=True))
    return CollaborativeTables(tuple(parts), widths, *tables)


def out_of_fold_collaborative(
    train: pd.DataFrame,
    users: int,
    movies: int,
    config: CollaborativeConfig,
    rows: pd.DataFrame | None = None,
    sources: np.ndarray | None = None,
) -> np.ndarray:
    """Return features, float32 [rows, features], each from tables fitted without the row's own fold.

    Training rows must come shuffled: row i belongs to fold ``i % folds``.

    Args:
        train: as in ``fit_collaborative``.
        users: number of users.
        movies: number of movies.
        config: which features, and how many folds.
        rows: the rows to return features of; default: the training rows.
        sources: int [rows], position of the training row whose fold each of ``rows`` shares.
    """
    rows = train if rows is None else rows
    fold = np.arange(len(train)) % config.folds
    row_fold = fold if sources is None else fold[sources]
    parts = {
        number: fit_collaborative(train[fold != number], users, movies, config).of(rows[row_fold == number])
        for number in range(config.folds)
    }
    features = np.empty((len(rows), parts[0].shape[1]), np.float32)
    for number, part in parts.items():
        features[row_fold == number] = part
    return features


def _exposure(train: pd.DataFrame, shape: tuple[int, int], factors: int) -> _Part:
    """Approximate who rated which movie (1 or 0) at rank ``factors``.

    Each cell is divided by the square roots of its row's and its column's count before, and multiplied by them
    afterwards, so that active users and popular movies do not dominate.
    """
    rated = seen_matrix(train, *shape, of="ratings")
    user_roots, movie_roots = (np.sqrt(np.maximum(rated.sum(axis=axis), 1)) for axis in (1, 0))
    scaled = rated.multiply(1 / user_roots[:, None]).multiply(1 / movie_roots[None, :]).tocsr()
    start = np.random.default_rng(0).normal(size=min(shape))  # the iteration converges from any
    left, values, right = svds(scaled, k=min(factors, min(shape) - 1), v0=start)
    return left * values * user_roots[:, None], right.T * movie_roots[:, None]


def _affinities(train: pd.DataFrame, shape: tuple[int, int], config: CollaborativeConfig) -> dict[str, _Part]:
    """Return, for each affinity feature, how much better than expected a user rates movies with the same value.

    ``sum of deviations / (rows + affinity_prior_rows)`` over the user's rows with that value, where a deviation is the
    rating minus the movie's mean, and then minus the user's.
    """
    users, movies = train["user_id"].to_numpy(), train["movie_id"].to_numpy()
    deviations = train["rating"].to_numpy(np.float64) - train["rating"].mean()
    for indices, size in ((movies, shape[1]), (users, shape[0])):
        means = np.bincount(indices, deviations, size) / (np.bincount(indices, minlength=size) + config.prior_rows)
        deviations = deviations - means[indices]
    parts = {}
    for name in config.affinity_fields:
        values = train[name].to_numpy()
        cells, table = (users, values), (shape[0], int(values.max()) + 1)
        sums = sparse.coo_array((deviations, cells), table).toarray()
        counts = sparse.coo_array((np.ones(len(train)), cells), table).toarray()
        has_value = np.zeros((shape[1], table[1]))
        has_value[movies, values] = 1  # a movie without training rows has no value here, hence no affinity
        parts[f"{name}_affinity"] = sums / (counts + config.affinity_prior_rows), has_value
    return parts


def _side_statistics(train: pd.DataFrame, side: str, size: int, prior_rows: float) -> dict[str, np.ndarray]:
    """Return statistics of each user or movie by name, float64 [size].

    Mean rating and share of likes are ``sum of deviations from the average / (n + prior_rows)`` over its n rows; the
    log count is ``log(1 + n)``.
    """
    indices = train[side].to_numpy()
    counts = np.bincount(indices, minlength=size)

    def mean(column: str) -> np.ndarray:
        values = train[column].to_numpy(np.float64)
        return np.bincount(indices, values - values.mean(), minlength=size) / (counts + prior_rows)

    return {"mean_rating": mean("rating"), "like_share": mean(schema.LABEL), "log_count": np.log1p(counts)}
