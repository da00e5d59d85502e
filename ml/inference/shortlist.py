"""Top lists of all users from a small share of the pairs, the same as by brute force.

At a fixed moment the logits of users x movies are close to low rank, whatever model gives them. So:

1. some users, drawn at random, are scored against every movie: their mean row and covariance describe all rows;
2. every other user is scored on a few probe movies; the conditional mean of the rest of the row, given these, predicts
   it (the best linear prediction, Rasmussen and Williams 2006, eq. 2.19);
3. a user's best predicted movies are scored exactly, and more of them until no unscored movie's prediction, plus the
   error that predictions were seen to have, reaches the last listed exact score;
4. other users, drawn at random, are scored against every movie and their lists compared. A difference makes the whole
   start again with more of everything, and in the end with brute force.

At a second moment the first one's probes serve again: a user's taste is known from them.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.linalg import qr
from scipy.sparse import csr_array

from ml.inference.toplists import TopLists, cut

AUDITED = 256  # users, at the first moment
AUDITED_FURTHER = 64  # users, other ones at each further moment
_FIRST_SAMPLE = 64  # users; a quarter of them measures the errors
_LARGEST_SAMPLE = 0.2  # of all users; beyond it brute force is not much dearer
_PROBES = (8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_RIDGE = 1e-4  # of the mean variance of a movie's logits, so that a singular covariance can be solved
_NEAR_TOP = 50  # movies a user, on which errors are measured
_CAUTION = 1.5  # errors may be this much larger than seen
_BLOCK = 512  # users whose rows are in memory at a time


class Catalogue(Protocol):
    """The logits of every user and movie at one moment, whatever the model."""

    shape: tuple[int, int]

    def pairs(self, users: np.ndarray, movies: np.ndarray) -> np.ndarray:
        """Logits float32 [n] of positions int [n]."""
        ...

    def rows(self, users: np.ndarray) -> np.ndarray:
        """Logits float32 [n, movies] of user positions int [n]."""
        ...


@dataclass(frozen=True)
class SearchReport:
    """How lists were found.

    Attributes:
        method: ``shortlist`` or ``brute_force``.
        attempts: searches until the audit found no difference.
        sampled_users, probe_movies: of the last attempt; a further moment uses the probes of the first.
        audited_users: compared with brute force in the last attempt.
        differences: lists among these that differed in the last attempt, by more than the order of equal scores.
        pairs_scored: over all attempts, audits included.
        pairs_total: users x movies.
    """

    method: str
    attempts: int
    sampled_users: int
    probe_movies: int
    audited_users: int
    differences: int
    pairs_scored: int
    pairs_total: int


def search_by_brute_force(
    catalogues: Sequence[Catalogue], seen: csr_array, length: int, on_progress: Callable[[int], None]
) -> list[tuple[TopLists, SearchReport]]:
    """Lists of all users at one or more moments by scoring every pair; arguments as in ``search``."""
    users = catalogues[0].shape[0]
    results = []
    for number, catalogue in enumerate(catalogues):
        lists = TopLists.empty(users, length)
        for block in _blocks(np.arange(users)):
            lists.put(block, cut(_masked(catalogue.rows(block), seen, block), length))
            on_progress(number * users + int(block[-1]) + 1)
        pairs = users * catalogue.shape[1]
        results.append((lists, SearchReport("brute_force", 1, 0, 0, 0, 0, pairs, pairs)))
    return results


def search(
    catalogues: Sequence[Catalogue], seen: csr_array, length: int, seed: int, on_progress: Callable[[int], None]
) -> list[tuple[TopLists, SearchReport]]:
    """Lists of all users at one or more moments, audited, from a small share of the pairs.

    Args:
        catalogues: give the logits, one catalogue a moment.
        seen: bool [users, movies], true where a movie must not be listed.
        length: k.
        seed: of the samples and of the audits.
        on_progress: called with the number of users whose lists are done, all moments counted.
    """
    users = catalogues[0].shape[0]
    rng = np.random.default_rng(seed)
    features: np.ndarray | None = None
    results = []
    for number, catalogue in enumerate(catalogues):

        def report(done: int, before: int = number * users) -> None:
            on_progress(before + done)

        audited = AUDITED if number == 0 else AUDITED_FURTHER
        moment = _Moment(catalogue, seen, length, rng.permutation(users), audited, report)
        lists, found, features = moment.search(features)
        results.append((lists, found))
    return results


class _Moment:
    """The search at one moment. ``order`` ranks users at random: samples and audits take them from the front."""

    def __init__(
        self,
        catalogue: Catalogue,
        seen: csr_array,
        length: int,
        order: np.ndarray,
        audited: int,
        on_progress: Callable[[int], None],
    ) -> None:
        self._catalogue, self._seen, self._length = catalogue, seen, length
        self._order, self._audited, self._on_progress = order, audited, on_progress
        self._rows = np.empty((0, catalogue.shape[1]), np.float32)  # of the first users in ``order``, scored in full
        self._spent = 0

    def search(self, features: np.ndarray | None) -> tuple[TopLists, SearchReport, np.ndarray | None]:
        """Lists, how they were found, and what is known of each user's taste [users, p] for the next moment.

        Args:
            features: the same of an earlier moment, or None: then probe movies are chosen and scored.
        """
        users, movies = self._catalogue.shape
        sampled, caution, attempt = _FIRST_SAMPLE, _CAUTION, 0
        while sampled + self._audited <= _LARGEST_SAMPLE * users:
            attempt += 1
            self._score_rows(sampled + self._audited)
            probes, tastes = (None, features) if features is not None else self._probe(sampled)
            lists = self._lists(sampled, caution, probes, tastes)
            differences = lists.of(self._order[sampled:][: self._audited]).differences(
                self._exact(slice(sampled, sampled + self._audited))
            )
            if not differences:
                lists.put(self._order[:sampled], self._exact(slice(sampled)))
                count = tastes.shape[1]
                facts = (attempt, sampled, count, self._audited, 0, self._spent, users * movies)
                return lists, SearchReport("shortlist", *facts), tastes
            sampled, caution = sampled + self._audited, 2 * caution  # the audited users join the sample
        [(lists, report)] = search_by_brute_force([self._catalogue], self._seen, self._length, self._on_progress)
        spent = report.pairs_scored + self._spent
        return lists, replace(report, attempts=attempt + 1, pairs_scored=spent), features

    def _score_rows(self, count: int) -> None:
        fresh = self._order[len(self._rows) : count]
        self._rows = np.concatenate([self._rows, self._catalogue.rows(fresh)])
        self._spent += len(fresh) * self._catalogue.shape[1]

    def _exact(self, rows: slice) -> TopLists:
        """Lists of users that are scored in full."""
        return cut(_masked(self._rows[rows].copy(), self._seen, self._order[rows]), self._length)

    def _probe(self, sampled: int) -> tuple[np.ndarray, np.ndarray]:
        """The probe movies that predict best, and every user's logits of them [users, p]."""
        seen = self._seen[self._order[:sampled]].toarray()
        probes = _best_probes(self._rows[:sampled], seen, self._length)
        tastes = np.empty((self._catalogue.shape[0], len(probes)), np.float32)
        known, others = np.split(self._order, [len(self._rows)])
        tastes[known] = self._rows[:, probes]
        tastes[others] = self._catalogue.pairs(*_grid(others, probes)).reshape(len(others), -1)
        self._spent += len(others) * len(probes)
        return probes, tastes

    def _lists(self, sampled: int, caution: float, probes: np.ndarray | None, tastes: np.ndarray) -> TopLists:
        """Lists of all users but the sampled ones, whose places stay empty."""
        known = self._order[:sampled]
        prediction = _Prediction.fit(tastes[known], self._rows[:sampled], self._seen[known].toarray(), self._length)
        lists = TopLists.empty(self._catalogue.shape[0], self._length)
        for start in range(sampled, len(self._order), _BLOCK):
            block = self._order[start : start + _BLOCK]
            logits = prediction.rows(tastes[block])
            if probes is not None:
                logits[:, probes] = tastes[block]
            lists.put(block, self._search_block(block, logits, caution * prediction.error, probes))
            self._on_progress(start + len(block))
        return lists

    def _search_block(
        self, users: np.ndarray, logits: np.ndarray, margin: float, probes: np.ndarray | None
    ) -> TopLists:
        """Lists of some users from predicted rows [n, movies], in which exact logits take the predictions' places."""
        scored = np.zeros(logits.shape, dtype=bool)
        if probes is not None:
            scored[:, probes] = True
        _masked(logits, self._seen, users)
        margins = np.full(len(users), margin, np.float32)
        bars = _last_listed(logits, self._length)
        active = np.arange(len(users))  # users whose lists may still change
        while len(active):
            hopes = (logits[active] + margins[active, None] >= bars[active, None]) & ~scored[active]
            found, movie = np.nonzero(hopes & (logits[active] > -np.inf))
            row = active[found]
            exact = self._catalogue.pairs(users[row], movie)
            # A user whose movies are predicted worse than others' is searched further down.
            np.maximum.at(margins, row, _CAUTION * np.abs(exact - logits[row, movie]))
            logits[row, movie] = exact
            scored[row, movie] = True
            self._spent += len(row)
            active = np.unique(row)
            bars[active] = _last_listed(np.where(scored[active], logits[active], -np.inf), self._length)
        return cut(np.where(scored, logits, -np.inf), self._length)


@dataclass(frozen=True)
class _Prediction:
    """Predicts a user's row from what is known of the user's taste.

    Attributes:
        centre: mean taste [p].
        mean: mean row [movies].
        weights: of a taste's deviations from the centre [p, movies].
        error: largest error seen near the top of users that the weights were not fitted on.
        left: movies a held-out user that the search would have to score.
    """

    centre: np.ndarray
    mean: np.ndarray
    weights: np.ndarray
    error: float
    left: float

    @classmethod
    def fit(cls, tastes: np.ndarray, rows: np.ndarray, seen: np.ndarray, length: int) -> "_Prediction":
        """Fit on three quarters of the sampled users, measure on the others; all arrays [sampled, ...]."""
        held = max(len(rows) // 4, 1)
        centre, mean = tastes[held:].mean(axis=0), rows[held:].mean(axis=0)
        own, deviations = tastes[held:] - centre, rows[held:] - mean
        ridge = _RIDGE * float(own.var()) * len(own) * np.eye(own.shape[1], dtype=np.float32)
        weights = np.linalg.solve(own.T @ own + ridge, own.T @ deviations).astype(np.float32)
        predicted = mean + (tastes[:held] - centre) @ weights
        hidden = np.where(seen[:held], -np.inf, predicted)
        near = np.argsort(-hidden, axis=1)[:, :_NEAR_TOP]
        error = float(np.abs(np.take_along_axis(predicted - rows[:held], near, axis=1)).max())
        bar = _last_listed(np.where(seen[:held], -np.inf, rows[:held]), length)
        left = float((hidden + _CAUTION * error >= bar[:, None]).sum(axis=1).mean())
        return cls(centre, mean, weights, error, left)

    def rows(self, tastes: np.ndarray) -> np.ndarray:
        """Predicted rows [n, movies] of tastes [n, p]."""
        return self.mean + (tastes - self.centre) @ self.weights


def _best_probes(rows: np.ndarray, seen: np.ndarray, length: int) -> np.ndarray:
    """The number of probe movies that costs least on held-out users, probes and what they leave to be scored."""
    # Pivoting takes in turn the movie that is predicted worst by those taken before.
    _, pivots = qr(rows[len(rows) // 4 :] - rows.mean(axis=0), mode="r", pivoting=True, check_finite=False)
    counts = [count for count in _PROBES if count <= min(len(rows) * 3 // 8, rows.shape[1])]
    cost = {count: count + _Prediction.fit(rows[:, pivots[:count]], rows, seen, length).left for count in counts}
    return pivots[: min(cost, key=lambda count: cost[count])]


def _last_listed(logits: np.ndarray, length: int) -> np.ndarray:
    """The ``length``-th largest logit of each row; ``-inf`` where there are fewer."""
    last = max(logits.shape[1] - length, 0)
    bar: np.ndarray = np.partition(logits, last, axis=1)[:, last]
    return bar


def _grid(users: np.ndarray, movies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs, user by user."""
    return np.repeat(users, len(movies)), np.tile(movies, len(users))


def _masked(logits: np.ndarray, seen: csr_array, users: np.ndarray) -> np.ndarray:
    """The logits with ``-inf`` at seen movies, in place."""
    logits[seen[users].toarray()] = -np.inf
    return logits


def _blocks(users: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(users), _BLOCK):
        yield users[start : start + _BLOCK]
