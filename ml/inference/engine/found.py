"""Keep the exact logits that a search has found so far."""

from dataclasses import dataclass, replace

import numpy as np

from ml.inference.engine.prediction import last_listed
from ml.inference.engine.top_k import MISSING, TopLists, cut


@dataclass(frozen=True)
class Found:
    """Exact logits of some pairs of a block; all arrays [n], by row and movie."""

    row: np.ndarray
    movie: np.ndarray
    logit: np.ndarray
    rows: int
    length: int

    @classmethod
    def nothing(cls, rows: int, length: int) -> "Found":
        """No pair yet."""
        return cls(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0, np.float32), rows, length)

    def with_more(self, row: np.ndarray, movie: np.ndarray, logit: np.ndarray) -> "Found":
        """These pairs and more."""
        row, movie = np.concatenate([self.row, row]), np.concatenate([self.movie, movie])
        order = np.lexsort((movie, row))
        logit = np.concatenate([self.logit, logit])
        return replace(self, row=row[order], movie=movie[order], logit=logit[order])

    def last_listed(self) -> np.ndarray:
        """The ``length``-th largest logit of each row."""
        return last_listed(self._side_by_side()[0], self.length)

    def lists(self) -> TopLists:
        """The best movies of each row."""
        logits, movies = self._side_by_side()
        lists = cut(logits, self.length)
        position = np.maximum(lists.movies, 0)
        movie = np.take_along_axis(movies, position, axis=1)
        return TopLists(np.where(lists.movies == MISSING, MISSING, movie).astype(np.int32), lists.scores)

    def _side_by_side(self) -> tuple[np.ndarray, np.ndarray]:
        """Logits and movies [rows, the most pairs of a row or k], ``-inf`` where a row has fewer."""
        position = np.arange(len(self.row)) - np.searchsorted(self.row, self.row)
        shape = (self.rows, max(int(position.max(initial=0)) + 1, self.length))
        logits, movies = np.full(shape, -np.inf, np.float32), np.zeros(shape, np.intp)
        logits[self.row, position], movies[self.row, position] = self.logit, self.movie
        return logits, movies
