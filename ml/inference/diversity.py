"""Lists whose movies differ: maximal marginal relevance (Carbonell and Goldstein, SIGIR 1998).

The first movie of a list is the best one. Each further one has the largest

    (1 - diversity) * probability - diversity * similarity to the most similar movie chosen so far

among the user's best movies, ``CANDIDATES`` times as many as the list is long. Movies are similar by their genres
(``ml.features.genres.jaccard``). The chosen movies are listed in descending order of probability, as in any other list.
"""

import numpy as np
import pandas as pd

from ml.features.genres import genre_sets, jaccard
from ml.inference.engine.top_k import MISSING, TopLists

CANDIDATES = 5  # for each movie of a list
_BLOCK = 1024  # lists whose similarities are in memory at a time


class Diversity:
    """Chooses lists from longer ones.

    Attributes:
        weight: of the difference between movies, from 0, which leaves the best movies, to below 1.

    Args:
        weight: as above.
        genres: of each movie, str [movies], joined by ``|``.
    """

    def __init__(self, weight: float, genres: pd.Series) -> None:
        self.weight = weight
        self._sets = genre_sets(genres) if weight else np.empty((len(genres), 0), np.float32)

    def candidates(self, length: int) -> int:
        """Length of the lists that ``choose`` needs for lists of this length."""
        return CANDIDATES * length if self.weight else length

    def choose(self, lists: TopLists, length: int) -> TopLists:
        """Choose lists of at most ``length`` movies from lists of ``candidates(length)``."""
        if not self.weight:
            return lists
        chosen = TopLists.empty(len(lists.movies), length)
        for first in range(0, len(lists.movies), _BLOCK):
            block = np.arange(first, min(first + _BLOCK, len(lists.movies)))
            chosen.put(block, self._chosen(lists.of(block), length))
        return chosen

    def _chosen(self, lists: TopLists, length: int) -> TopLists:
        similarity = jaccard(self._sets[np.maximum(lists.movies, 0)])
        relevance = (1 - self.weight) * np.nan_to_num(lists.scores, nan=-np.inf)
        rows = np.arange(len(lists.movies))
        nearest = np.zeros_like(relevance)  # similarity to the most similar chosen movie
        left, places = np.isfinite(relevance), np.empty((len(rows), 0), int)
        for _ in range(min(length, lists.movies.shape[1])):
            value = np.where(left, relevance - self.weight * nearest, -np.inf)
            place = value.argmax(axis=1)  # of equal ones the first, which has the higher probability
            # Where none is left, every value is -inf, and place 0 would be taken a second time.
            places = np.column_stack([places, np.where(left[rows, place], place, lists.movies.shape[1])])
            left[rows, place] = False
            nearest = np.maximum(nearest, similarity[rows, place])
        places.sort(axis=1)  # the places are in descending order of probability
        return _at(lists, places)


def _at(lists: TopLists, places: np.ndarray) -> TopLists:
    """The entries at these places, int [lists, k]; a place behind the last one is empty."""
    width = ((0, 0), (0, 1))
    movies = np.pad(lists.movies, width, constant_values=MISSING)
    scores = np.pad(lists.scores, width, constant_values=np.nan)
    return TopLists(*(np.take_along_axis(values, places, axis=1) for values in (movies, scores)))
