"""Cut rows of scores to ranked lists."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

MISSING = -1  # instead of a movie index where a user has fewer unseen movies than the list is long
_SAME_SCORE = 1e-6  # probabilities that differ by less are the same score


@dataclass(frozen=True)
class TopLists:
    """Ranked lists of some users.

    Attributes:
        movies: movie indices, best first, int32 [users, k]; ``MISSING`` where there are no more.
        scores: their probabilities, float32 [users, k]; NaN where there are no more.
    """

    movies: np.ndarray
    scores: np.ndarray

    @classmethod
    def empty(cls, users: int, length: int) -> "TopLists":
        """Make lists without movies, to be filled by ``put``."""
        return cls(np.full((users, length), MISSING, np.int32), np.full((users, length), np.nan, np.float32))

    @classmethod
    def joined(cls, parts: Sequence["TopLists"]) -> "TopLists":
        """Join the lists of parts of the users, in order."""
        return cls(np.concatenate([part.movies for part in parts]), np.concatenate([part.scores for part in parts]))

    def put(self, users: np.ndarray, found: "TopLists") -> None:
        """Set the lists of some users, by index."""
        self.movies[users], self.scores[users] = found.movies, found.scores

    def of(self, users: np.ndarray) -> "TopLists":
        """The lists of some users, by index."""
        return TopLists(self.movies[users], self.scores[users])

    def entries(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All listed movies, list by list: row, place from 0, and movie index, each int [n]."""
        row, place = np.nonzero(self.movies != MISSING)
        return row, place, self.movies[row, place]

    def differences(self, other: "TopLists") -> int:
        """Count the lists that differ from another's by more than the order of equal scores."""
        moved = self.movies != other.movies
        apart = ~(np.abs(self.scores - other.scores) <= _SAME_SCORE)  # a NaN differs from any score
        return int((moved & apart).any(axis=1).sum())


def cut(logits: np.ndarray, length: int) -> TopLists:
    """Take the best of each row, in descending order of probability; equal ones in ascending order of index.

    Args:
        logits: float32 [users, movies]; ``-inf`` for what must not be listed.
        length: k.
    """
    lists = TopLists.empty(len(logits), length)
    probabilities = expit(logits)  # different logits can have the same one, so only these decide which scores are equal
    row, rank, movie = best_columns(probabilities, ~(logits > -np.inf), length)
    lists.movies[row, rank] = movie
    lists.scores[row, rank] = probabilities[row, movie]
    return lists


def best_columns(scores: np.ndarray, hidden: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the best columns of each row, in descending order of score; equal ones in ascending order of index.

    Args:
        scores: float [rows, columns].
        hidden: bool [rows, columns], true for cells that must not be listed.
        length: most columns per row.

    Returns:
        Row, rank from 0 and column of each listed cell, each int [n], by row and rank.
    """
    masked = np.where(hidden, -np.inf, scores)
    last = max(masked.shape[1] - length, 0)
    threshold = np.partition(masked, last, axis=1)[:, last]
    row, column = np.nonzero((masked >= threshold[:, None]) & ~hidden)
    order = np.lexsort((column, -masked[row, column], row))
    rank = np.arange(len(row)) - np.searchsorted(row, row)  # rows are sorted already and keep their places
    kept = rank < length
    return row[kept], rank[kept], column[order][kept]
