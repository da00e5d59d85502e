"""What the training ratings say of a user and a movie together, as numbers for a network.

Every signal is an inner product of a user's and a movie's vector: the predictions of matrix factorisations, EASE's
scores at a low rank, how likely the user is to come across the movie at all, the user's liking for the movie's genre,
the means and counts of either side. So two tables hold them all, and any pair's are known from its codes.

A training row's own rating must not reach its signals: they are computed out of fold, by tables that were fitted on
the other folds' rows. Rows that were not trained on get theirs from tables fitted on all training rows.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, field_validator
from scipy import sparse
from scipy.sparse.linalg import svds

from ml import schema
from ml.features.ease import EaseConfig, low_rank_ease, seen_matrix
from ml.features.factorization import FactorizationConfig, factorize

_SIDES = ("user_id", "movie_id")


class SignalsConfig(BaseModel):
    """Which signals there are. Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    factorizations: dict[str, FactorizationConfig] = Field(
        default={}, description="Matrix factorisations by the name of the signal that each one's prediction is."
    )
    ease: dict[str, EaseConfig] = Field(default={}, description="EASE models by the name of each one's signal.")
    exposure_factors: int = Field(
        default=0, ge=0, description="Rank at which it is approximated who rated which movie; 0 for no such signal."
    )
    affinity_fields: tuple[str, ...] = Field(
        default=(), description="Movie fields by whose values a user's deviations from the movies' means are averaged."
    )
    affinity_prior_rows: float = Field(default=10.0, gt=0, description="Rows of no deviation in such an average.")
    prior_rows: float = Field(
        default=5.0, gt=0, description="Rows of the average rating that a mean of ratings is drawn to."
    )
    folds: int = Field(default=5, ge=2, description="Folds of the training rows.")

    @field_validator("affinity_fields")
    @classmethod
    def _are_movie_fields(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        known = [field.name for field in schema.FIELDS if field.side == "movie"]
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"unknown {', '.join(unknown)}; expected some of {', '.join(known)}")
        return names


@dataclass(frozen=True)
class PairSignals:
    """Signals of every pair: ``signal[s] = sum over s's columns of users[u] * movies[m]``.

    Attributes:
        names: of the signals.
        widths: columns of each signal, one after the other.
        users: float32 [users, columns].
        movies: float32 [movies, columns].
    """

    names: tuple[str, ...]
    widths: tuple[int, ...]
    users: np.ndarray
    movies: np.ndarray

    def of(self, rows: pd.DataFrame) -> np.ndarray:
        """Signals, float32 [rows, signals], of rows with the codes user_id and movie_id."""
        products = self.users[rows["user_id"]] * self.movies[rows["movie_id"]]
        starts = np.cumsum([0, *self.widths[:-1]])
        return np.add.reduceat(products, starts, axis=1)


_Part = tuple[np.ndarray, np.ndarray]  # a signal's columns in the users' and in the movies' table


def fit_signals(train: pd.DataFrame, users: int, movies: int, config: SignalsConfig) -> PairSignals:
    """Learn the signals' tables.

    Args:
        train: codes user_id and movie_id, rating, label, and the affinity fields.
        users: number of user codes.
        movies: number of movie codes.
        config: which signals.
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
    return PairSignals(tuple(parts), widths, *tables)


def out_of_fold_signals(
    train: pd.DataFrame,
    users: int,
    movies: int,
    config: SignalsConfig,
    rows: pd.DataFrame | None = None,
    sources: np.ndarray | None = None,
) -> np.ndarray:
    """Signals of training rows, float32 [rows, signals], each by tables that its fold's rows had no part in.

    Training rows must come shuffled: row i belongs to fold ``i % folds``.

    Args:
        train: as in ``fit_signals``.
        users: number of user codes.
        movies: number of movie codes.
        config: which signals, and how many folds.
        rows: what the signals are of; default: the training rows.
        sources: int [rows], the training row that each of ``rows`` stems from and whose fold it shares.
    """
    rows = train if rows is None else rows
    fold = np.arange(len(train)) % config.folds
    row_fold = fold if sources is None else fold[sources]
    parts = {
        number: fit_signals(train[fold != number], users, movies, config).of(rows[row_fold == number])
        for number in range(config.folds)
    }
    signals = np.empty((len(rows), parts[0].shape[1]), np.float32)
    for number, part in parts.items():
        signals[row_fold == number] = part
    return signals


def _exposure(train: pd.DataFrame, shape: tuple[int, int], factors: int) -> _Part:
    """The best approximation of rank ``factors`` to who rated which movie (1 or 0).

    A cell is divided by the root of its row's and its column's count before, and multiplied by it afterwards, so that
    busy users and famous movies do not take all of it.
    """
    rated = seen_matrix(train, *shape, of="ratings")
    user_roots, movie_roots = (np.sqrt(np.maximum(rated.sum(axis=axis), 1)) for axis in (1, 0))
    scaled = rated.multiply(1 / user_roots[:, None]).multiply(1 / movie_roots[None, :]).tocsr()
    start = np.random.default_rng(0).normal(size=min(shape))  # of an iteration that converges from anywhere
    left, values, right = svds(scaled, k=min(factors, min(shape) - 1), v0=start)
    return left * values * user_roots[:, None], right.T * movie_roots[:, None]


def _affinities(train: pd.DataFrame, shape: tuple[int, int], config: SignalsConfig) -> dict[str, _Part]:
    """By field, how much better than expected a user rates movies with the same value of the field.

    ``sum of deviations / (rows + affinity_prior_rows)`` over the user's rows with that value, where a deviation is from
    the movie's mean and then from the user's.
    """
    users, movies = train["user_id"].to_numpy(), train["movie_id"].to_numpy()
    deviations = train["rating"].to_numpy(np.float64) - train["rating"].mean()
    for codes, size in ((movies, shape[1]), (users, shape[0])):
        means = np.bincount(codes, deviations, size) / (np.bincount(codes, minlength=size) + config.prior_rows)
        deviations = deviations - means[codes]
    parts = {}
    for name in config.affinity_fields:
        values = train[name].to_numpy()
        cells, table = (users, values), (shape[0], int(values.max()) + 1)
        sums = sparse.coo_array((deviations, cells), table).toarray()
        counts = sparse.coo_array((np.ones(len(train)), cells), table).toarray()
        has_value = np.zeros((shape[1], table[1]))
        has_value[movies, values] = 1  # a movie without training rows has none, hence no affinity
        parts[f"{name}_affinity"] = sums / (counts + config.affinity_prior_rows), has_value
    return parts


def _side_statistics(train: pd.DataFrame, side: str, size: int, prior_rows: float) -> dict[str, np.ndarray]:
    """By name, float64 [size], of users or movies, n being their rows.

    Mean rating and share of likes, both less the average, are ``sum / (n + prior_rows)``; the log count is
    ``log(1 + n)``.
    """
    codes = train[side].to_numpy()
    counts = np.bincount(codes, minlength=size)

    def mean(column: str) -> np.ndarray:
        values = train[column].to_numpy(np.float64)
        return np.bincount(codes, values - values.mean(), minlength=size) / (counts + prior_rows)

    return {"mean_rating": mean("rating"), "like_share": mean(schema.LABEL), "log_count": np.log1p(counts)}
