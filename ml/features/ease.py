"""EASE: which movies go together, by one linear model for each movie."""

from collections.abc import Callable

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field
from scipy import sparse

from ml import schema

_OVERSAMPLING, _POWER_ITERATIONS = 10, 4


class EaseConfig(BaseModel):
    """Settings of an EASE whose scores are approximated at a low rank. Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    of: str = Field(default="likes", pattern="^(likes|ratings)$", description="likes or ratings: what counts as seen.")
    penalty: float = Field(default=500.0, gt=0, description="L2 penalty on the weights.")
    rank: int = Field(default=128, ge=1, description="Rank at which the scores are approximated.")


def seen_matrix(train: pd.DataFrame, users: int, movies: int, of: str = "likes") -> sparse.csr_array:
    """1 where a training row is, or with ``likes`` a liked one, else 0: float64 [users, movies].

    Args:
        train: codes user_id and movie_id, and label.
        users: number of user codes.
        movies: number of movie codes.
        of: ``likes`` or ``ratings``.
    """
    rows = train[train[schema.LABEL] == 1] if of == "likes" else train
    cells = (rows["user_id"].to_numpy(), rows["movie_id"].to_numpy())
    return sparse.csr_array((np.ones(len(rows)), cells), shape=(users, movies))


def ease_weights(seen: sparse.csr_array, penalty: float) -> np.ndarray:
    """Weights B, float64 [movies, movies], of the scores ``seen @ B``.

    The least squares of ``seen - seen @ B`` with an L2 penalty and a zero diagonal; with
    ``P = inv(seen' seen + penalty I)``, ``B[i, j] = -P[i, j] / P[j, j]`` (Steck, "Embarrassingly Shallow Autoencoders
    for Sparse Data", WWW 2019, equation 8).
    """
    gram = (seen.T @ seen).toarray()
    gram[np.diag_indices_from(gram)] += penalty
    inverse = np.linalg.inv(gram)
    weights: np.ndarray = -inverse / np.diag(inverse)
    np.fill_diagonal(weights, 0)
    return weights


def low_rank_ease(train: pd.DataFrame, users: int, movies: int, config: EaseConfig) -> tuple[np.ndarray, np.ndarray]:
    """Factors, float64 [users, rank] and [movies, rank], whose products best approximate EASE's scores.

    The rank is at most one less than the smaller side. Arguments as for ``seen_matrix``.
    """
    seen = seen_matrix(train, users, movies, config.of)
    weights = ease_weights(seen, config.penalty)
    rank = min(config.rank, min(users, movies) - 1)
    return _randomized_svd(
        lambda right: seen @ (weights @ right), lambda left: weights.T @ (seen.T @ left), movies, rank
    )


def _randomized_svd(
    times: Callable[[np.ndarray], np.ndarray],
    transposed_times: Callable[[np.ndarray], np.ndarray],
    columns: int,
    rank: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Left singular vectors by their values, and right ones, of a matrix that is only multiplied by others.

    Halko, Martinsson and Tropp, "Finding Structure with Randomness", SIAM Review 2011, algorithms 4.4 and 5.1.
    """
    basis = np.random.default_rng(0).normal(size=(columns, rank + _OVERSAMPLING))
    for _ in range(_POWER_ITERATIONS):
        basis = np.linalg.qr(transposed_times(np.linalg.qr(times(basis))[0]))[0]
    basis = np.linalg.qr(times(basis))[0]
    left, values, right = np.linalg.svd(transposed_times(basis).T, full_matrices=False)
    return (basis @ left * values)[:, :rank], right[:rank].T
