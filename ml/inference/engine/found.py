"""Keep the exact logits that a search has found so far."""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from ml.inference.engine.top_k import MISSING, TopLists, cut


@dataclass(frozen=True)
class Found:
    """The best of the pairs of a block that are scored, by row and from the highest logit to the lowest; arrays [n].

    Of each row it has the ``length`` best pairs, and those that are as probable as the last of them: which of these is
    listed depends on their movies.

    Attributes:
        row: of each pair, int.
        movie: index, int.
        logit: exact, float32.
        rows: number of rows.
        length: of a list.
    """

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
        """The best of these pairs and more."""
        row, movie = np.concatenate([self.row, row]), np.concatenate([self.movie, movie])
        logit = np.concatenate([self.logit, logit])
        order = np.lexsort((-logit, row))
        row, movie, logit = row[order], movie[order], logit[order]
        first = np.searchsorted(row, row)
        last = np.minimum(first + self.length, np.searchsorted(row, row, side="right")) - 1
        probability = expit(logit)
        best = probability >= probability[last]
        return Found(row[best], movie[best], logit[best], self.rows, self.length)

    def last_listed(self) -> np.ndarray:
        """The ``length``-th largest logit of each row; ``-inf`` where there are fewer."""
        last: np.ndarray = np.full(self.rows, -np.inf, np.float32)
        at = self._places() == self.length - 1
        last[self.row[at]] = self.logit[at]
        return last

    def lists(self) -> TopLists:
        """The best movies of each row."""
        # ``cut`` orders equal scores by position, which is that of the movies here.
        order = np.lexsort((self.movie, self.row))
        place = self._places()
        shape = (self.rows, max(int(place.max(initial=0)) + 1, self.length))
        logits, movies = np.full(shape, -np.inf, np.float32), np.zeros(shape, np.intp)
        logits[self.row, place], movies[self.row, place] = self.logit[order], self.movie[order]
        lists = cut(logits, self.length)
        position = np.maximum(lists.movies, 0)
        movie = np.take_along_axis(movies, position, axis=1)
        return TopLists(np.where(lists.movies == MISSING, MISSING, movie).astype(np.int32), lists.scores)

    def _places(self) -> np.ndarray:
        """Of each pair in its row, from 0."""
        return np.arange(len(self.row)) - np.searchsorted(self.row, self.row)
