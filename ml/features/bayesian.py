"""Bayesian matrix factorization with side information: a collaborative feature.

The ratings are ``r[u, i] = mean + b_u + c_i + p_u . q_i + noise`` with normal noise. A row of weights, (b_u, p_u) or
(c_i, q_i), is normal around ``m + beta' f``, where f is the row's side information: which items the user has rated (who
has rated the item), whatever the ratings, and known features such as age or genre. Means, covariances, beta and the
noise have priors too. Gibbs sampling draws all of them in turn; the prediction is the mean over the draws.

Sources: Salakhutdinov and Mnih, "Bayesian Probabilistic Matrix Factorization using Markov Chain Monte Carlo", ICML
2008; side information: Simm et al., "Macau", MLSP 2017; implicit feedback as side information: Koren, "Factorization
Meets the Neighborhood", KDD 2008.
"""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field, model_validator
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve
from scipy.stats import wishart

from ml.features.implicit import implicit_factors
from ml.features.sides import Sides

_IMPLICIT_NORM = 3.0  # root mean square length of the implicit part of side information; a known feature has length 1
_MEAN_ROWS = 2.0  # rows that the prior of a mean is worth: beta_0 in the paper of 2008
_AT_ONCE = 8  # draws whose columns are in memory before they are compressed


class BayesianConfig(BaseModel, frozen=True, extra="forbid"):
    """Settings of a Bayesian matrix factorization. Frozen; an unknown key is an error."""

    target: str = Field(default="rating", pattern="^(rating|label)$", description="What it predicts: rating or label.")
    factors: int = Field(default=15, ge=1, description="Width of a user's and a movie's vector.")
    implicit_rank: int = Field(
        default=64, ge=0, description="Rank of the approximation of who rated what, as side information; 0: none."
    )
    user_fields: tuple[str, ...] = Field(default=(), description="User features that are side information.")
    movie_fields: tuple[str, ...] = Field(default=(), description="Movie features that are side information.")
    penalty: float = Field(default=10.0, gt=0, description="Precision of the weights of side information.")
    iterations: int = Field(default=80, ge=2, description="Draws of all weights.")
    burn_in: int = Field(default=15, ge=0, description="First draws that the mean leaves out; fewer than iterations.")
    width: int = Field(default=32, ge=1, description="Rank of the approximation of the mean over the draws.")
    seed: int = Field(default=42, ge=0, description="Of the draws.")

    @model_validator(mode="after")
    def _some_draws_are_kept(self) -> "BayesianConfig":
        if self.burn_in >= self.iterations:
            raise ValueError(f"burn_in is {self.burn_in}; expected fewer than iterations, {self.iterations}")
        return self

    @property
    def fields(self) -> tuple[str, ...]:
        """Features of the data set that are side information."""
        return (*self.user_fields, *self.movie_fields)

    def within(self, names: Collection[str]) -> "BayesianConfig":
        """Return the settings with those of their fields that a data set has."""
        users, movies = (tuple(name for name in own if name in names) for own in (self.user_fields, self.movie_fields))
        return self.model_copy(update={"user_fields": users, "movie_fields": movies})


class _Side:
    """The weights of all users, or of all items, and the draws of their prior.

    Rows without values tell nothing about the prior; their weights are the prior's mean.

    Args:
        information: side information, float32 [rows, features].
        values: without their mean, float32 [rows, rows of the other side].
        width: of a row of weights.
        penalty: precision of beta.
        rng: of the draws.

    Attributes:
        weights: the draw of bias and factors, float32 [rows, width].
        posterior_means: of the normal distribution that it was drawn from, float32 [rows, width].
        precision: of a row of weights around its mean, float64 [width, width].
        means: of the prior, float64 [rows, width].
    """

    def __init__(
        self, information: np.ndarray, values: sparse.csr_array, width: int, penalty: float, rng: np.random.Generator
    ) -> None:
        self._information, self._values, self._penalty, self._rng = information, values, penalty, rng
        self._rated = np.flatnonzero(np.diff(values.indptr))
        self._of_rated = information[self._rated]
        features = information.shape[1]
        gram = self._of_rated.T.astype(np.float64) @ self._of_rated
        self._factor = cho_factor(gram + penalty * np.eye(features), lower=True)
        self._beta = np.zeros((features, width), np.float32)
        shape = len(information), width
        self.weights = rng.normal(scale=0.1, size=shape).astype(np.float32)
        self.weights[:, 0] = 0
        self.posterior_means = np.zeros_like(self.weights)
        self.precision, self.means = np.eye(width), np.zeros(shape)

    def draw_prior(self) -> None:
        """Draw mean, precision and beta, given the weights."""
        weights, rng = self.weights[self._rated], self._rng
        rows, width = weights.shape
        residuals = weights - self._of_rated @ self._beta
        mean = residuals.mean(axis=0, dtype=np.float64)
        centered = residuals - mean
        scatter = (
            np.eye(width)
            + centered.T @ centered
            + self._penalty * self._beta.T @ self._beta
            + _MEAN_ROWS * rows / (_MEAN_ROWS + rows) * np.outer(mean, mean)
        )
        scale = np.linalg.inv(scatter)
        freedom = width + rows + len(self._beta)
        self.precision = np.atleast_2d(wishart.rvs(freedom, (scale + scale.T) / 2, random_state=rng))
        spread = np.linalg.inv(np.linalg.cholesky(self.precision))  # spread' spread is the covariance
        common = rows * mean / (_MEAN_ROWS + rows) + rng.normal(size=width) @ spread / np.sqrt(_MEAN_ROWS + rows)
        self._draw_beta(weights - common, spread)
        self.means = common + self._information @ self._beta

    def _draw_beta(self, centered: np.ndarray, spread: np.ndarray) -> None:
        """Draw the weights of side information (Simm et al., section 3, noise injection)."""
        rng, shape = self._rng, self._beta.shape
        noisy = (centered + rng.normal(size=centered.shape) @ spread).astype(np.float32)
        right = self._of_rated.T @ noisy + np.sqrt(self._penalty) * rng.normal(size=shape) @ spread
        self._beta = cho_solve(self._factor, right).astype(np.float32)

    def draw_weights(self, other: "_Side", noise_precision: float) -> None:
        """Draw the weights, given the other side's."""
        from ml.features.loops import sample_rows

        values, scale = self._values, np.float32(np.sqrt(noise_precision))  # makes the noise's variance 1
        residuals, design = (scale * each for each in _regression(values, other.weights))
        precision, shifts = self.precision.astype(np.float32), (self.means @ self.precision).astype(np.float32)
        draws = self._rng.standard_normal(self.weights.shape, np.float32)
        sample_rows(values.indptr, values.indices, residuals, design, precision, shifts, self.posterior_means, draws)
        self.weights = self.posterior_means.copy()
        self.weights[self._rated] = draws[self._rated]


def _regression(values: sparse.csr_array, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each value without the other side's bias, and the rows that one side's weights are multiplied with."""
    design = other.copy()
    design[:, 0] = 1
    return values.data - other[:, 0][values.indices], design


class _Mean:
    """The mean of products ``left @ right.T``, as two narrow matrices.

    Args:
        width: at most this many columns.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._lefts: list[np.ndarray] = []
        self._rights: list[np.ndarray] = []
        self._waiting = 0
        self._count = 0

    def add(self, left: np.ndarray, right: np.ndarray) -> None:
        """Add a product of float [rows, n] and [columns, n]."""
        self._lefts.append(left)
        self._rights.append(right)
        self._count += 1
        self._waiting += 1
        if self._waiting == _AT_ONCE:
            self._compress(2 * self._width)

    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the mean's factors, float [rows, width] and [columns, width]."""
        self._compress(self._width)
        return self._lefts[0] / self._count, self._rights[0]

    def _compress(self, width: int) -> None:
        left, right = truncated_product(np.hstack(self._lefts), np.hstack(self._rights), width)
        self._lefts, self._rights, self._waiting = [left], [right], 0


def truncated_product(left: np.ndarray, right: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return factors, float [rows, width] and [columns, width], of the best approximation of ``left @ right.T``.

    The truncated singular value decomposition of the product, which is never formed. Factors have fewer columns where
    the product has fewer rows or columns than ``width``.

    Args:
        left: float [rows, n].
        right: float [columns, n].
        width: rank of the approximation.
    """
    left_basis, left_rest = np.linalg.qr(left)
    right_basis, right_rest = np.linalg.qr(right)
    outer, values, inner = np.linalg.svd(left_rest @ right_rest.T, full_matrices=False)
    return left_basis @ (outer[:, :width] * values[:width]), right_basis @ inner[:width].T


@dataclass(frozen=True)
class _Ratings:
    """Target values without their mean, by user and by item."""

    mean: float
    by_user: sparse.csr_array
    by_item: sparse.csr_array

    @classmethod
    def of(cls, train: pd.DataFrame, shape: tuple[int, int], target: str) -> "_Ratings":
        values = train[target].to_numpy(np.float32)
        mean = float(values.mean(dtype=np.float64))
        cells = (train["user_id"].to_numpy(), train["movie_id"].to_numpy())
        by_user = sparse.csr_array((values - np.float32(mean), cells), shape=shape)
        return cls(mean, by_user, by_user.T.tocsr())


def bayesian_factors(train: pd.DataFrame, sides: Sides, config: BayesianConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return factors, float32 [users, width] and [movies, width], whose products are the predictions.

    The prediction is averaged over draws of the movies' weights, with the mean of the users' given these: it varies
    less than with a draw of both (Rao-Blackwellization: Gelfand and Smith, JASA 1990).

    Args:
        train: indices user_id and movie_id, and the target.
        sides: all users and movies, with the fields of side information. A user or movie without training rows is
            predicted from these.
        config: the settings.
    """
    ratings, rng = _Ratings.of(train, sides.shape, config.target), np.random.default_rng(config.seed)
    implicit = implicit_factors(train, sides.shape, config.implicit_rank)
    known = (sides.users, config.user_fields), (sides.movies, config.movie_fields)
    user, movie = (
        _Side(_information(*of_side, seen, values, config.penalty), values, 1 + config.factors, config.penalty, rng)
        for of_side, seen, values in zip(known, implicit, (ratings.by_user, ratings.by_item), strict=True)
    )
    mean, noise_precision = _Mean(config.width), 1 / float(np.mean(ratings.by_user.data**2) + 1e-9)
    for iteration in range(config.iterations):
        for side, other in ((movie, user), (user, movie)):
            side.draw_prior()
            side.draw_weights(other, noise_precision)
        noise_precision = _draw_noise_precision(ratings.by_item, movie.weights, user.weights, rng)
        if iteration >= config.burn_in:
            mean.add(*_prediction(ratings.mean, user.posterior_means, movie.weights))
    return mean.factors()


def _information(
    table: pd.DataFrame, fields: tuple[str, ...], implicit: np.ndarray, values: sparse.csr_array, penalty: float
) -> np.ndarray:
    """Return one side's side information, float32 [rows, features]: implicit factors, and fields as one-hot vectors.

    Of the implicit factors, what the fields tell is subtracted. So 0 stands for those of a row without values, and the
    fields' weights tell all that is known of it.
    """
    rated = np.flatnonzero(np.diff(values.indptr))
    one_hot = np.hstack(
        [np.ones((len(table), 1)), *(np.eye(int(table[name].max()) + 1)[table[name]] for name in fields)]
    )
    of_rated, rest = one_hot[rated], np.zeros_like(implicit)
    gram = of_rated.T @ of_rated + penalty * np.eye(one_hot.shape[1])
    rest[rated] = implicit[rated] - of_rated @ np.linalg.solve(gram, of_rated.T @ implicit[rated])
    length = np.sqrt((rest[rated] ** 2).sum(axis=1).mean())
    return np.hstack([rest * (_IMPLICIT_NORM / max(length, 1e-9)), one_hot[:, 1:]]).astype(np.float32)


def _prediction(mean: float, users: np.ndarray, movies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return factors whose products are the predictions of one draw."""
    left = np.column_stack([users[:, 0] + mean, np.ones_like(users[:, 0]), users[:, 1:]])
    return left, np.column_stack([np.ones_like(movies[:, 0]), movies])


def _draw_noise_precision(
    values: sparse.csr_array, weights: np.ndarray, other: np.ndarray, rng: np.random.Generator
) -> float:
    """Draw the precision of the noise, whose prior is Gamma(1, 1)."""
    from ml.features.loops import squared_error

    residuals, design = _regression(values, other)
    error = squared_error(values.indptr, values.indices, residuals, design, weights)
    return float(rng.gamma(1 + len(residuals) / 2, 1 / (1 + error / 2)))
