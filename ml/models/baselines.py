"""Models without a network that every trained model is measured against."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse

from ml import schema


def random_scores(rows: int, seed: int) -> np.ndarray:
    """Uniform scores in [0, 1), float64 [rows]."""
    return np.random.default_rng(seed).random(rows)


def movie_mean_scores(train: pd.DataFrame, test: pd.DataFrame, prior_rows: float = 10) -> np.ndarray:
    """Probability that a movie is liked, the same for every user, float64 [test rows].

    ``(likes + prior_rows * mean) / (count + prior_rows)``, the movie's training likes and rows, the mean of all
    training labels.
    """
    mean = train[schema.LABEL].mean()
    by_movie = train.groupby("movie_id")[schema.LABEL].agg(["sum", "count"])
    by_movie = by_movie.reindex(test["movie_id"], fill_value=0)
    return ((by_movie["sum"] + prior_rows * mean) / (by_movie["count"] + prior_rows)).to_numpy()


@dataclass(frozen=True)
class BiasedMatrixFactorization:
    """Ratings as ``mean + b_user + b_movie + p_user . q_movie``, fitted by alternating least squares.

    Each half-step solves every user's (movie's) ridge regression exactly. The penalty on a row with n ratings is
    ``(penalty + penalty_per_rating * n) * ||(b, p)||^2`` (weighted-lambda regularisation: Zhou et al., AAIM 2008; bias
    terms: Koren et al., IEEE Computer 2009).

    Attributes:
        factors: width of p and q.
        penalty: constant part of the ridge penalty.
        penalty_per_rating: part that grows with the row's ratings.
        iterations: alternations.
        seed: of the movies' normal start (sd 0.1).
    """

    factors: int = 15
    penalty: float = 8.0
    penalty_per_rating: float = 0.02
    iterations: int = 20
    seed: int = 42

    def __post_init__(self) -> None:
        if self.factors < 1 or self.iterations < 1:
            raise ValueError(f"factors and iterations must be positive, got {self.factors} and {self.iterations}")

    def fit_predict(self, train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
        """Fit on the training ratings, predict the test rows' ratings, float64 [test rows]; codes for ids."""
        users = max(train["user_id"].max(), test["user_id"].max()) + 1
        movies = max(train["movie_id"].max(), test["movie_id"].max()) + 1
        mean = float(train["rating"].mean())
        cells = (train["user_id"].to_numpy(), train["movie_id"].to_numpy())
        residuals = sparse.csr_array((train["rating"].to_numpy(np.float64) - mean, cells), shape=(users, movies))
        rated = sparse.csr_array((np.ones(len(train)), cells), shape=(users, movies))

        start = np.random.default_rng(self.seed).normal(scale=0.1, size=(movies, self.factors))
        movie_weights = np.column_stack([np.zeros(movies), start])  # [movies, 1 + factors]: b_movie, q_movie
        for _ in range(self.iterations):
            user_weights = self._solve(residuals, rated, movie_weights)
            movie_weights = self._solve(residuals.T.tocsr(), rated.T.tocsr(), user_weights)
        user, movie = user_weights[test["user_id"]], movie_weights[test["movie_id"]]
        return mean + user[:, 0] + movie[:, 0] + np.einsum("rf,rf->r", user[:, 1:], movie[:, 1:])

    def _solve(self, residuals: sparse.csr_array, rated: sparse.csr_array, other: np.ndarray) -> np.ndarray:
        """Weights [rows, 1 + factors] of one side, given the other side's [columns, 1 + factors]."""
        width = self.factors + 1
        design = np.column_stack([np.ones(len(other)), other[:, 1:]])  # the other side's bias moves to the target
        outer = np.einsum("cf,cg->cfg", design, design).reshape(len(other), width**2)
        gram = (rated @ outer).reshape(-1, width, width)
        target = residuals @ design - (rated.multiply(other[:, 0]).tocsr()) @ design
        counts = rated.sum(axis=1)
        ridge = self.penalty + self.penalty_per_rating * counts
        return np.linalg.solve(gram + ridge[:, None, None] * np.eye(width), target[..., None])[..., 0]
