"""Baselines without a network that every trained model is compared with."""

import numpy as np
import pandas as pd

from ml import schema
from ml.features.factorization import FactorizationConfig, factorize


def random_scores(rows: int, seed: int) -> np.ndarray:
    """Return uniform scores in [0, 1), float64 [rows]."""
    return np.random.default_rng(seed).random(rows)


def movie_mean_scores(train: pd.DataFrame, test: pd.DataFrame, prior_rows: float = 10) -> np.ndarray:
    """Return the probability that a movie is liked, the same for every user, float64 [test rows].

    ``(likes + prior_rows * mean) / (count + prior_rows)`` with the movie's training likes and rows, and the mean of
    all training labels.
    """
    mean = train[schema.LABEL].mean()
    by_movie = train.groupby("movie_id")[schema.LABEL].agg(["sum", "count"])
    by_movie = by_movie.reindex(test["movie_id"], fill_value=0)
    return ((by_movie["sum"] + prior_rows * mean) / (by_movie["count"] + prior_rows)).to_numpy()


def factorization_scores(train: pd.DataFrame, test: pd.DataFrame, seed: int) -> np.ndarray:
    """Predict ratings by a matrix factorization with 15 factors, float64 [test rows]."""
    users, movies = (int(max(train[name].max(), test[name].max())) + 1 for name in ("user_id", "movie_id"))
    fitted = factorize(train, users, movies, FactorizationConfig(seed=seed))
    return fitted.predict(test["user_id"].to_numpy(), test["movie_id"].to_numpy())
