"""Predict rows of logits from the collaborative features of their pairs; step 2 of ``shortlist``."""

from collections.abc import Callable

import numpy as np

from ml.inference.engine.regression import Regression

_RANKS, _DENSE = 512, 100  # movies of a user to fit on; ranks up to which most movies are among them
_CELLS = 2**21  # numbers in memory at a time

Numbers = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of ``Catalogue``


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
        self._numbers, self._movies = numbers, np.arange(rows.shape[1])
        ranks = np.expm1(np.linspace(0, np.log1p((len(self._movies) - 1) / _DENSE), _RANKS)) * _DENSE
        ranks = np.unique(np.round(ranks).astype(int))
        movies = np.argsort(np.where(seen, np.inf, -rows), axis=1)[:, ranks]
        of_pairs = [numbers(users[[row]], movies[row])[0].T for row in range(len(users))]
        logits = np.take_along_axis(rows, movies, axis=1)
        self._regression = Regression.fit(np.concatenate(of_pairs), logits.reshape(-1))

    def rows(self, users: np.ndarray, movies: np.ndarray | None = None) -> np.ndarray:
        """Predicted logits, float32 [n, m], of user indices [n] and movie indices [m] (default: all)."""
        movies = self._movies if movies is None else movies
        return self._by_pair(self._regression.rows, users, movies, np.float32)

    def extrapolates(self, users: np.ndarray) -> np.ndarray:
        """Where features lie outside the range that the regression was fitted on, bool [n, movies], of indices [n]."""
        return self._by_pair(self._regression.is_beyond, users, self._movies, bool)

    def _by_pair(
        self, function: Callable[[np.ndarray], np.ndarray], users: np.ndarray, movies: np.ndarray, dtype: type
    ) -> np.ndarray:
        out: np.ndarray = np.empty((len(users), len(movies)), dtype)
        step = max(_CELLS // (len(movies) * max(self._regression.features, 1)), 1)
        for start in range(0, len(users), step):
            some = slice(start, start + step)
            out[some] = function(self._numbers(users[some], movies))
        return out
