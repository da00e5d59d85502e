"""Predict rows of logits from the collaborative features of their pairs; step 2 of ``shortlist``."""

from collections.abc import Callable, Mapping
from itertools import product

import numpy as np

from ml.inference.engine.regression import Regression

_RANKS, _DENSE = 512, 100  # movies of a user to fit on; ranks up to which most movies are among them
# Numbers in memory at a time, and the movies that they are of: few enough for both to stay in the processor's cache.
_CELLS, _TILE = 2**20, 4096

Numbers = Callable[[np.ndarray, np.ndarray | slice], np.ndarray]  # of ``Catalogue``


class Outline:
    """What a regression on the collaborative features predicts; the mean logit where there are none.

    It is fitted to the best movies of the sampled users above all, since the others need only be told apart from these.

    Args:
        numbers: of a catalogue.
        users: sampled users, indices [n].
        rows: their logits [n, movies].
        seen: bool [n, movies], true where a movie must not be listed.
    """

    def __init__(self, numbers: Numbers, users: np.ndarray, rows: np.ndarray, seen: np.ndarray) -> None:
        self._numbers, self._width = numbers, rows.shape[1]
        ranks = np.expm1(np.linspace(0, np.log1p((self._width - 1) / _DENSE), _RANKS)) * _DENSE
        ranks = np.unique(np.round(ranks).astype(int))
        movies = np.argsort(np.where(seen, np.inf, -rows), axis=1)[:, ranks]
        of_pairs = [numbers(users[[row]], movies[row])[0].T for row in range(len(users))]
        logits = np.take_along_axis(rows, movies, axis=1)
        self._regression = Regression.fit(np.concatenate(of_pairs), logits.reshape(-1))

    def rows(self, users: np.ndarray, movies: np.ndarray | None = None) -> np.ndarray:
        """Predicted logits, float32 [n, m], of user indices [n] and movie indices [m] (default: all)."""
        [logits] = self._by_pair(users, movies, {self._regression.rows: np.float32})
        return logits

    def whole_rows(self, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Predicted logits, float32 [n, movies], of user indices [n], and where the regression extrapolates.

        That is where features lie outside the range that it was fitted on, bool [n, movies].
        """
        logits, beyond = self._by_pair(
            users, None, {self._regression.rows: np.float32, self._regression.is_beyond: bool}
        )
        return logits, beyond

    def _by_pair(
        self, users: np.ndarray, movies: np.ndarray | None, functions: Mapping[Callable[[np.ndarray], np.ndarray], type]
    ) -> list[np.ndarray]:
        """Apply functions to the features of all pairs; gives [n, m] of each, of the types that are given."""
        width = self._width if movies is None else len(movies)
        outs: list[np.ndarray] = [np.empty((len(users), width), dtype) for dtype in functions.values()]
        step = max(_CELLS // (min(width, _TILE) * max(self._regression.features, 1)), 1)
        for start, first in product(range(0, len(users), step), range(0, width, _TILE)):
            some, tile = slice(start, start + step), slice(first, min(first + _TILE, width))
            numbers = self._numbers(users[some], tile if movies is None else movies[tile])
            for out, function in zip(outs, functions, strict=True):
                out[some, tile] = function(numbers)
        return outs
