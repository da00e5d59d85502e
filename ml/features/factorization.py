"""Matrix factorization of training ratings: a baseline, and a collaborative feature."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field, model_validator
from scipy import sparse

_MULTIPLE = 4  # widths of a compiled loop that make full vector instructions


class FactorizationConfig(BaseModel, frozen=True, extra="forbid"):
    """Settings of a matrix factorization with biases. Frozen; an unknown key is an error."""

    target: str = Field(default="rating", pattern="^(rating|label)$", description="What it predicts: rating or label.")
    factors: int = Field(default=15, ge=1, description="Width of a user's and a movie's vector.")
    penalty: float = Field(default=8.0, ge=0, description="Constant part of a row's ridge penalty.")
    penalty_per_rating: float = Field(default=0.02, ge=0, description="Part per rating of the row.")
    iterations: int = Field(default=20, ge=1, description="Alternations.")
    seed: int = Field(default=42, ge=0, description="Of the movies' normal initial values (sd 0.1).")

    @model_validator(mode="after")
    def _is_penalized(self) -> "FactorizationConfig":
        if not self.penalty and not self.penalty_per_rating:
            raise ValueError("penalty and penalty_per_rating are both 0; expected one of them to be positive")
        return self


@dataclass(frozen=True)
class Factorization:
    """A fitted ``mean + b_user + b_movie + p_user . q_movie``.

    Attributes:
        mean: of the training values.
        users: b and p, float64 [users, 1 + factors].
        movies: b and q, float64 [movies, 1 + factors].
    """

    mean: float
    users: np.ndarray
    movies: np.ndarray

    def predict(self, users: np.ndarray, movies: np.ndarray) -> np.ndarray:
        """Predict, float64 [rows], for indices int [rows]."""
        user, movie = self.users[users], self.movies[movies]
        return self.mean + user[:, 0] + movie[:, 0] + np.einsum("rf,rf->r", user[:, 1:], movie[:, 1:])


def factorize(train: pd.DataFrame, users: int, movies: int, config: FactorizationConfig) -> Factorization:
    """Fit by alternating least squares.

    Each half-step solves every user's (movie's) ridge regression exactly. The penalty on a row with n ratings is
    ``(penalty + penalty_per_rating * n) * ||(b, p)||^2`` (weighted-lambda regularization: Zhou et al., AAIM 2008; bias
    terms: Koren et al., IEEE Computer 2009). Users and movies without ratings get zeros.

    Args:
        train: indices user_id and movie_id, and the target.
        users: number of users.
        movies: number of movies.
        config: the settings.
    """
    values = train[config.target].to_numpy(np.float64)
    mean = float(values.mean())
    cells = (train["user_id"].to_numpy(), train["movie_id"].to_numpy())
    by_user = sparse.csr_array((values - mean, cells), shape=(users, movies))
    by_movie = by_user.T.tocsr()

    start = np.random.default_rng(config.seed).normal(scale=0.1, size=(movies, config.factors))
    movie_weights = np.column_stack([np.zeros(movies), start])
    for _ in range(config.iterations):
        user_weights = _solve(by_user, movie_weights, config)
        movie_weights = _solve(by_movie, user_weights, config)
    return Factorization(mean, user_weights, movie_weights)


def _solve(residuals: sparse.csr_array, other: np.ndarray, config: FactorizationConfig) -> np.ndarray:
    """Solve for one side's weights [rows, 1 + factors], given the other side's [columns, 1 + factors]."""
    from ml.features.loops import solve_rows

    width = config.factors + 1
    design = np.zeros((len(other), -(-width // _MULTIPLE) * _MULTIPLE))
    design[:, 0] = 1
    design[:, 1:width] = other[:, 1:]
    values = residuals.data - other[residuals.indices, 0]  # the other side's bias moves to the target
    counts = np.diff(residuals.indptr)
    ridges = np.where(
        counts, config.penalty + config.penalty_per_rating * counts, 1
    )  # any solves a row without ratings
    weights = np.empty((residuals.shape[0], design.shape[1]))
    solve_rows(residuals.indptr, residuals.indices, values, design, ridges, weights)
    return weights[:, :width]
