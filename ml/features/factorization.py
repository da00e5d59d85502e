"""Matrix factorization of training ratings: a baseline, and a collaborative feature."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field
from scipy import sparse


class FactorizationConfig(BaseModel, frozen=True, extra="forbid"):
    """Settings of a matrix factorization with biases. Frozen; an unknown key is an error."""

    target: str = Field(default="rating", pattern="^(rating|label)$", description="What it predicts: rating or label.")
    factors: int = Field(default=15, ge=1, description="Width of a user's and a movie's vector.")
    penalty: float = Field(default=8.0, ge=0, description="Constant part of a row's ridge penalty.")
    penalty_per_rating: float = Field(default=0.02, ge=0, description="Part per rating of the row.")
    iterations: int = Field(default=20, ge=1, description="Alternations.")
    seed: int = Field(default=42, ge=0, description="Of the movies' normal initial values (sd 0.1).")


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
    residuals = sparse.csr_array((values - mean, cells), shape=(users, movies))
    rated = sparse.csr_array((np.ones(len(train)), cells), shape=(users, movies))

    start = np.random.default_rng(config.seed).normal(scale=0.1, size=(movies, config.factors))
    movie_weights = np.column_stack([np.zeros(movies), start])
    for _ in range(config.iterations):
        user_weights = _solve(residuals, rated, movie_weights, config)
        movie_weights = _solve(residuals.T.tocsr(), rated.T.tocsr(), user_weights, config)
    return Factorization(mean, user_weights, movie_weights)


def _solve(
    residuals: sparse.csr_array, rated: sparse.csr_array, other: np.ndarray, config: FactorizationConfig
) -> np.ndarray:
    """Solve for one side's weights [rows, 1 + factors], given the other side's [columns, 1 + factors]."""
    width = config.factors + 1
    design = np.column_stack([np.ones(len(other)), other[:, 1:]])  # the other side's bias moves to the target
    outer = np.einsum("cf,cg->cfg", design, design).reshape(len(other), width**2)
    gram = (rated @ outer).reshape(-1, width, width)
    target = residuals @ design - (rated.multiply(other[:, 0]).tocsr()) @ design
    counts = rated.sum(axis=1)
    ridge = config.penalty + config.penalty_per_rating * counts
    return np.linalg.solve(gram + ridge[:, None, None] * np.eye(width), target[..., None])[..., 0]
