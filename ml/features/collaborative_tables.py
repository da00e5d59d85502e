"""The collaborative features of all pairs of users and movies, as two tables of vectors.

Apart from the code that fits them, since a network is served with the tables alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

Columns = tuple[np.ndarray, np.ndarray]  # a feature's columns in the users' and in the movies' table


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

    @classmethod
    def of_columns(cls, names: Sequence[str], columns: Sequence[Columns]) -> "CollaborativeTables":
        """Join the columns of the features of these names."""
        widths = tuple(user.shape[1] for user, _ in columns)
        users, movies = (np.hstack(side).astype(np.float32, copy=False) for side in zip(*columns, strict=True))
        return cls(tuple(names), widths, users, movies)

    def of(self, rows: pd.DataFrame) -> np.ndarray:
        """Return the features, float32 [rows, features], of rows with the indices user_id and movie_id."""
        products = self.users[rows["user_id"]] * self.movies[rows["movie_id"]]
        starts = np.cumsum([0, *self.widths[:-1]])
        return np.add.reduceat(products, starts, axis=1)
