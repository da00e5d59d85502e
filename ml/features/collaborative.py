"""Collaborative features: what the training ratings tell about a pair of user and movie.

Every feature is an inner product of a user's and a movie's vector: predictions of matrix factorizations, also Bayesian
ones, EASE's scores at a low rank, SASRec's score of the next movie, how likely the user is to rate the movie at all,
the user's preference for the movie's genre, means and counts of user and movie. So two tables hold them all, and the
features of any pair follow from its indices.

``ml.features.collaborative_folds`` fits them for a data set.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field
from scipy import sparse

from ml import schema
from ml.features.bayesian import BayesianConfig, bayesian_factors
from ml.features.collaborative_tables import Columns
from ml.features.ease import EaseConfig, low_rank_ease, seen_matrix
from ml.features.factorization import FactorizationConfig, factorize
from ml.features.implicit import scaled_svd
from ml.features.next_item import NextItemConfig, NextItemLearner, next_item_score
from ml.features.sides import Sides

_SIDES = ("user_id", "movie_id")
# Statistics of a user or a movie, and the column whose mean each is; none for the count.
_STATISTICS = {"mean_rating": "rating", "like_share": schema.LABEL, "log_count": None}


class CollaborativeConfig(BaseModel, frozen=True, extra="forbid"):
    """Which collaborative features a network has. Frozen; an unknown key is an error."""

    factorizations: dict[str, FactorizationConfig] = Field(
        default={}, description="Matrix factorizations, each by the name of the feature that is its prediction."
    )
    bayesian: dict[str, BayesianConfig] = Field(
        default={}, description="Bayesian matrix factorizations with side information, each by the name of its feature."
    )
    ease: dict[str, EaseConfig] = Field(default={}, description="EASE models, each by the name of its feature.")
    sequence: dict[str, NextItemConfig] = Field(
        default={}, description="SASRec models, each by the name of the feature that is its score of the next movie."
    )
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
    stranger_share: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="Share of the users all of whose rows are in one fold, so that a network learns from users without "
        "ratings too.",
    )

    def within(self, names: Collection[str]) -> "CollaborativeConfig":
        """Return the settings with those of their fields that a data set has."""
        bayesian = {name: each.within(names) for name, each in self.bayesian.items()}
        affinity = tuple(name for name in self.affinity_fields if name in names)
        return self.model_copy(update={"affinity_fields": affinity, "bayesian": bayesian})

    @property
    def fields(self) -> dict[schema.Side, tuple[str, ...]]:
        """Features of users and of movies that they are computed from, by side."""
        users = (name for each in self.bayesian.values() for name in each.user_fields)
        movies = (name for each in self.bayesian.values() for name in each.movie_fields)
        return {"user": tuple(dict.fromkeys(users)), "movie": tuple(dict.fromkeys((*self.affinity_fields, *movies)))}


@dataclass(frozen=True)
class Part:
    """A collaborative feature that can be fitted.

    Attributes:
        name: of the feature.
        key: its settings as text; equal keys mean equal columns, whatever the name.
        reads: further columns of the training rows that it is fitted on, besides user_id and movie_id.
        learn: returns the columns, given such rows, and all users and movies.
        by_time: whether folds are parts of each user's history in the order of time; else, they are random.
    """

    name: str
    key: str
    reads: tuple[str, ...]
    learn: Callable[[pd.DataFrame, Sides], Columns]
    by_time: bool = False

    def fit(
        self,
        train: pd.DataFrame,
        sides: Sides,
        kept: np.ndarray | None = None,
        given: np.ndarray | None = None,
    ) -> Columns:
        """Return the feature's columns, float32.

        Args:
            train: training rows with indices user_id and movie_id, and what the feature ``reads``.
            sides: all users and movies, with the features that are side information.
            kept: bool [rows], the rows to learn from; default: all.
            given: bool [rows], of a part by time, the rows before those that it will predict; default: all.
        """
        rows = train[[*_SIDES, *self.reads]]
        if self.by_time:
            rows = rows.assign(given=True if given is None else given)
        users, movies = self.learn(rows if kept is None else rows[kept], sides)
        return users.astype(np.float32), movies.astype(np.float32)


def parts_of(config: CollaborativeConfig, learn_next_items: NextItemLearner | None = None) -> list[Part]:
    """Return the features of a network, in their order.

    Args:
        config: which features.
        learn_next_items: trains the networks of ``sequence``; without it, such a feature has a name and no fit.
    """
    return [*_fitted_parts(config, learn_next_items), *_affinities(config), *_side_statistics(config)]


def _fitted_parts(config: CollaborativeConfig, learn_next_items: NextItemLearner | None) -> Iterator[Part]:
    for name, settings in config.factorizations.items():
        learn = partial(_factorization, config=settings)
        yield Part(name, f"factorization {settings.model_dump_json()}", (settings.target,), learn)
    for name, bayesian in config.bayesian.items():
        learn = partial(bayesian_factors, config=bayesian)
        yield Part(name, f"bayesian {bayesian.model_dump_json()}", (bayesian.target,), learn)
    for name, of in config.ease.items():
        yield Part(name, f"ease {of.model_dump_json()}", of.reads, partial(_ease, config=of))
    for name, of_next in config.sequence.items():
        learn = partial(_next_item, config=of_next, learn=learn_next_items)
        yield Part(name, f"sequence {of_next.model_dump_json()}", ("timestamp", "row"), learn, by_time=True)
    if factors := config.exposure_factors:
        yield Part("exposure", f"exposure {factors}", (), partial(_exposure, factors=factors))


def _affinities(config: CollaborativeConfig) -> Iterator[Part]:
    for field in config.affinity_fields:
        name, settings = f"{field}_affinity", f"{config.affinity_prior_rows} {config.prior_rows}"
        yield Part(name, f"{name} {settings}", ("rating",), partial(_affinity, field=field, config=config))


def _side_statistics(config: CollaborativeConfig) -> Iterator[Part]:
    for side in _SIDES:
        for what, column in _STATISTICS.items():
            name = f"{side.removesuffix('_id')}_{what}"
            learn = partial(_side_statistic, side=side, column=column, prior_rows=config.prior_rows)
            yield Part(name, f"{name} {config.prior_rows}", (column,) if column else (), learn)


def _factorization(train: pd.DataFrame, sides: Sides, config: FactorizationConfig) -> Columns:
    """Predict the target by a matrix factorization."""
    shape = sides.shape
    fitted = factorize(train, *shape, config)
    bias, ones = fitted.users[:, :1] + fitted.mean, np.ones((shape[0], 1))
    user = np.hstack([bias, ones, fitted.users[:, 1:]])
    return user, np.hstack([np.ones((shape[1], 1)), fitted.movies])


def _ease(train: pd.DataFrame, sides: Sides, config: EaseConfig) -> Columns:
    """Return EASE's score at a low rank."""
    return low_rank_ease(train, *sides.shape, config)


def _next_item(train: pd.DataFrame, sides: Sides, config: NextItemConfig, learn: NextItemLearner | None) -> Columns:
    """Return SASRec's score of the next movie."""
    return next_item_score(train, sides.shape, config, learn)


def _exposure(train: pd.DataFrame, sides: Sides, factors: int) -> Columns:
    """Approximate who rated which movie (1 or 0) at rank ``factors``.

    Each cell is divided by the square roots of its row's and its column's count before, and multiplied by them
    afterwards.
    """
    rated = seen_matrix(train, *sides.shape, of="ratings")
    left, values, right = scaled_svd(rated, factors, (0.5, 0.5))
    user_roots, movie_roots = (np.sqrt(np.maximum(rated.sum(axis=axis), 1)) for axis in (1, 0))
    return left * values * user_roots[:, None], right.T * movie_roots[:, None]


def _affinity(train: pd.DataFrame, sides: Sides, field: str, config: CollaborativeConfig) -> Columns:
    """Tell how much better than expected a user rates movies with the same value of a feature.

    ``sum of deviations / (rows + affinity_prior_rows)`` over the user's rows with that value, where a deviation is the
    rating minus the movie's mean, and then minus the user's.
    """
    shape, users, movies = sides.shape, train["user_id"].to_numpy(), train["movie_id"].to_numpy()
    deviations = train["rating"].to_numpy(np.float64) - train["rating"].mean()
    for indices, size in ((movies, shape[1]), (users, shape[0])):
        means = np.bincount(indices, deviations, size) / (np.bincount(indices, minlength=size) + config.prior_rows)
        deviations = deviations - means[indices]
    of_movies = sides.movies[field].to_numpy()
    values = int(of_movies.max()) + 1
    cells, table = (users, of_movies[movies]), (shape[0], values)
    sums = sparse.coo_array((deviations, cells), table).toarray()
    counts = sparse.coo_array((np.ones(len(train)), cells), table).toarray()
    return sums / (counts + config.affinity_prior_rows), np.eye(values)[of_movies]


def _side_statistic(train: pd.DataFrame, sides: Sides, side: str, column: str | None, prior_rows: float) -> Columns:
    """Tell the mean of a column in a user's or a movie's n rows, or ``log(1 + n)``.

    The mean is ``sum of deviations from the average / (n + prior_rows)``.
    """
    own, other = sides.shape if side == "user_id" else sides.shape[::-1]
    indices = train[side].to_numpy()
    counts = np.bincount(indices, minlength=own)
    statistic = np.log1p(counts)
    if column:
        values = train[column].to_numpy(np.float64)
        statistic = np.bincount(indices, values - values.mean(), minlength=own) / (counts + prior_rows)
    columns = statistic[:, None], np.ones((other, 1))
    return columns if side == "user_id" else columns[::-1]
