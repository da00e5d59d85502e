"""Cut rows of scores to ranked lists."""

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
    # Different logits can have the same probability, so only probabilities decide which scores are equal.
    probabilities = np.where(logits > -np.inf, expit(logits), np.float32(-1))
    last = max(logits.shape[1] - length, 0)
    threshold = np.maximum(np.partition(probabilities, last, axis=1)[:, last], 0)
    row, column = np.nonzero(probabilities >= threshold[:, None])
    score = probabilities[row, column]
    order = np.lexsort((column, -score, row))
    rank = np.arange(len(row)) - np.searchsorted(row, row)  # rows are sorted already and keep their places
    kept = rank < length
    lists.movies[row[kept], rank[kept]] = column[order][kept]
    lists.scores[row[kept], rank[kept]] = score[order][kept]
    return lists
