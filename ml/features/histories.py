"""Histories: each user's rated items in the order of time."""

from dataclasses import dataclass

import numpy as np
import pandas as pd


@dataclass(frozen=True)
class Histories:
    """The items of all users, in the order of their ratings.

    Attributes:
        starts: int64 [users + 1]; user u has the items from ``starts[u]`` up to, without, ``starts[u + 1]``.
        items: int32 [ratings], indices.
    """

    starts: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, rows: pd.DataFrame, users: int) -> "Histories":
        """Sort rows by time; those of the same second by ``row``, their place in the file of ratings.

        Args:
            rows: encoded rows in any order: the indices user_id and movie_id, timestamp, row.
            users: number of users; those without rows have no items.
        """
        order = np.lexsort([rows[name].to_numpy() for name in ("row", "timestamp", "user_id")])
        counts = np.bincount(rows["user_id"], minlength=users)
        items = rows["movie_id"].to_numpy(np.int32)[order]
        return cls(np.concatenate([[0], np.cumsum(counts)]), items)

    @property
    def lengths(self) -> np.ndarray:
        """How many items each user has, int64 [users]."""
        return np.diff(self.starts)

    def user(self, user: int) -> np.ndarray:
        """Return a user's items, int32 [n]."""
        return self.items[self.starts[user] : self.starts[user + 1]]

    def without_last(self, count: int) -> "Histories":
        """Return the histories without each user's last items; a user with no more than ``count`` has none left."""
        kept = np.maximum(self.lengths - count, 0)
        users = np.repeat(np.arange(len(kept)), self.lengths)
        places = np.arange(len(self.items)) - self.starts[users]
        return Histories(np.concatenate([[0], np.cumsum(kept)]), self.items[places < kept[users]])

    def last(self, users: np.ndarray) -> np.ndarray:
        """Return the last items, int32 [n], of users int [n] who have some."""
        return self.items[self.starts[users + 1] - 1]
