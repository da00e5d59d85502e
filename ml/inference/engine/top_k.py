"""Cut rows of scores to ranked lists."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

MISSING = -1  # in place of a movie where a user has fewer unseen ones than the list is long
_SAME_SCORE = 1e-6  # probabilities closer than this are the same score


@dataclass(frozen=True)
class TopLists:
    """Ranked lists of some users.

    Attributes:
        movies: positions of movies, best first, int32 [users, k]; ``MISSING`` where there are no more.
        scores: their probabilities, float32 [users, k]; NaN where there are no more.
    """

    movies: np.ndarray
    scores: np.ndarray

    @classmethod
    def empty(cls, users: int, length: int) -> "TopLists":
        """Lists without movies, to be filled by ``put``."""
        return cls(np.full((users, length), MISSING, np.int32), np.full((users, length), np.nan, np.float32))

    def put(self, users: np.ndarray, found: "TopLists") -> None:
        """Take over the lists of some users, by their positions."""
        self.movies[users], self.scores[users] = found.movies, found.scores

    def of(self, users: np.ndarray) -> "TopLists":
        """The lists of some users, by their positions."""
        return TopLists(self.movies[users], self.scores[users])

    def differences(self, other: "TopLists") -> int:
        """Number of lists that differ from another's by more than the order of equal scores."""
        moved = self.movies != other.movies
        apart = ~(np.abs(self.scores - other.scores) <= _SAME_SCORE)  # a NaN is apart from any score
        return int((moved & apart).any(axis=1).sum())


def cut(logits: np.ndarray, length: int) -> TopLists:
    """The best of each row, by falling probability, equal ones by rising position.

    Args:
        logits: float32 [users, movies]; ``-inf`` for what must not be listed.
        length: k.
    """
    lists = TopLists.empty(len(logits), length)
    # Different logits can share a probability, so that only probabilities tell which scores are equal.
    probabilities = np.where(logits > -np.inf, expit(logits), np.float32(-1))
    last = max(logits.shape[1] - length, 0)
    threshold = np.maximum(np.partition(probabilities, last, axis=1)[:, last], 0)
    row, column = np.nonzero(probabilities >= threshold[:, None])
    score = probabilities[row, column]
    order = np.lexsort((column, -score, row))
    rank = np.arange(len(row)) - np.searchsorted(row, row)  # rows come sorted, so that sorting keeps them in place
    kept = rank < length
    lists.movies[row[kept], rank[kept]] = column[order][kept]
    lists.scores[row[kept], rank[kept]] = score[order][kept]
    return lists
