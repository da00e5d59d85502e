"""Top lists of all users from a small share of the pairs, the same as by brute force.

At a fixed moment the logits of users x movies are close to low rank, whatever model gives them. So:

1. some users, drawn at random, are scored against every movie: their mean row and covariance describe all rows;
2. every other user is scored on a few probe movies; the conditional mean of the rest of the row, given these, predicts
   it (the best linear prediction, Rasmussen and Williams 2006, eq. 2.19);
3. a user's best predicted movies are scored exactly, and more of them until no unscored movie's prediction, plus the
   error that predictions were seen to have, reaches the tenth best exact score;
4. other users, drawn at random, are scored against every movie and their lists compared. A difference makes the whole
   start again with more of everything, and in the end with brute force.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.linalg import qr
from scipy.sparse import csr_array

from ml.inference.toplists import TopLists, cut

AUDITED = 256  # users
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
        sampled_users, probe_movies: of the last attempt.
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
    catalogue: Catalogue, seen: csr_array, length: int, on_progress: Callable[[int], None], attempts: int = 0
) -> tuple[TopLists, SearchReport]:
    """Lists of all users by scoring every pair; arguments as in ``search``."""
    users, movies = catalogue.shape
    blocks = []
    for block in _blocks(np.arange(users)):
        blocks.append(cut(_masked(catalogue.rows(block), seen, block), length))
        on_progress(int(block[-1]) + 1)
    report = SearchReport("brute_force", attempts + 1, 0, 0, 0, 0, users * movies, users * movies)
    return TopLists(*(np.concatenate([getattr(b, n) for b in blocks]) for n in ("movies", "scores"))), report


def search(
    catalogue: Catalogue, seen: csr_array, length: int, seed: int, on_progress: Callable[[int], None]
) -> tuple[TopLists, SearchReport]:
    """Lists of all users, audited, from a small share of the pairs.

    Args:
        catalogue: gives the logits.
        seen: bool [users, movies], true where a movie must not be listed.
        length: k.
        seed: of the sample and of the audit.
        on_progress: called with the number of users whose lists are done.
    """
    users, movies = catalogue.shape
    order = np.random.default_rng(seed).permutation(users)
    sampled, spent, attempt, caution = _FIRST_SAMPLE, 0, 0, _CAUTION
    rows = np.empty((0, movies), np.float32)  # of the first users in ``order``: all that are scored in full
    while sampled + AUDITED <= _LARGEST_SAMPLE * users:
        attempt += 1
        fresh = order[len(rows) : sampled + AUDITED]
        rows = np.concatenate([rows, catalogue.rows(fresh)])
        spent += len(fresh) * movies
        prediction = _Prediction.fit(rows[:sampled], seen[order[:sampled]].toarray(), length)
        lists = TopLists(np.empty((users, length), np.int32), np.empty((users, length), np.float32))
        done = sampled
        for block in _blocks(order[sampled:]):
            found, scored = _search_block(catalogue, prediction, seen, block, length, caution)
            _put(lists, block, found)
            spent += scored
            done += len(block)
            on_progress(done)
        audited = order[sampled : sampled + AUDITED]
        truth = cut(_masked(rows[sampled : sampled + AUDITED], seen, audited), length)
        differences = TopLists(lists.movies[audited], lists.scores[audited]).differences(truth)
        if not differences:
            _put(lists, order[:sampled], cut(_masked(rows[:sampled].copy(), seen, order[:sampled]), length))
            report = SearchReport(
                "shortlist", attempt, sampled, len(prediction.probes), AUDITED, 0, spent, users * movies
            )
            return lists, report
        sampled, caution = sampled + AUDITED, 2 * caution  # the audited users join the sample
    lists, report = search_by_brute_force(catalogue, seen, length, on_progress, attempt)
    return lists, replace(report, pairs_scored=report.pairs_scored + spent)


@dataclass(frozen=True)
class _Prediction:
    """Predicts a user's row from the user's logits of the probe movies.

    Attributes:
        probes: positions of the probe movies [p].
        mean: mean row [movies].
        weights: of the probes' deviations from their means [p, movies].
        error: largest error seen near the top of users that the weights were not fitted on.
    """

    probes: np.ndarray
    mean: np.ndarray
    weights: np.ndarray
    error: float

    @classmethod
    def fit(cls, rows: np.ndarray, seen: np.ndarray, length: int) -> "_Prediction":
        """Choose the number of probes that costs least on users held out: probes and what they leave to be scored."""
        held = max(len(rows) // 4, 1)
        fitted, test, masked = rows[held:], rows[:held], np.where(seen[:held], -np.inf, rows[:held])
        top = np.sort(masked, axis=1)[:, -length]  # the held-out users' last listed logits
        mean = fitted.mean(axis=0)
        choices = []
        for probes, weights in _weights(fitted):
            predicted = mean + (test[:, probes] - mean[probes]) @ weights
            near = np.argsort(-np.where(seen[:held], -np.inf, predicted), axis=1)[:, :_NEAR_TOP]
            error = float(np.abs(np.take_along_axis(predicted - test, near, axis=1)).max())
            left = (predicted + _CAUTION * error >= top[:, None]) & ~seen[:held]
            cost = len(probes) + left.sum(axis=1).mean()
            choices.append((cost, cls(probes, mean, weights, error)))
        return min(choices, key=lambda choice: choice[0])[1]

    def rows(self, probed: np.ndarray) -> np.ndarray:
        """Predicted rows [n, movies] of exact probe logits [n, p]; the probes' own columns exact."""
        predicted = self.mean + (probed - self.mean[self.probes]) @ self.weights
        predicted[:, self.probes] = probed
        return predicted


def _weights(rows: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For growing numbers of probe movies: their positions and the weights that predict a row from them."""
    deviations = rows - rows.mean(axis=0)
    # Pivoting takes in turn the movie that is predicted worst by those taken before.
    _, pivots = qr(deviations, mode="r", pivoting=True, check_finite=False)
    ridge = _RIDGE * float(deviations.var()) * len(rows)
    for count in _PROBES:
        if count <= len(rows) // 2:
            probes = pivots[:count]
            own = deviations[:, probes]
            gram = own.T @ own + ridge * np.eye(count, dtype=np.float32)
            yield probes, np.linalg.solve(gram, own.T @ deviations).astype(np.float32)


def _search_block(
    catalogue: Catalogue, prediction: _Prediction, seen: csr_array, users: np.ndarray, length: int, caution: float
) -> tuple[TopLists, int]:
    """Lists of some users, and how many pairs were scored for them."""
    probes = prediction.probes
    grid = np.repeat(users, len(probes)), np.tile(probes, len(users))
    probed = catalogue.pairs(*grid).reshape(len(users), -1)
    logits = _masked(prediction.rows(probed), seen, users)
    scored = np.zeros(logits.shape, dtype=bool)
    scored[:, probes] = True
    error = np.full(len(users), caution * prediction.error, np.float32)
    bar = np.partition(logits, -length, axis=1)[:, -length]
    spent = probed.size
    while True:
        row, movie = np.nonzero((logits + error[:, None] >= bar[:, None]) & ~scored & (logits > -np.inf))
        if not len(row):
            return cut(np.where(scored, logits, -np.inf), length), spent
        exact = catalogue.pairs(users[row], movie)
        # A user whose movies are predicted worse than others' is searched further down.
        np.maximum.at(error, row, caution * np.abs(exact - logits[row, movie]))
        logits[row, movie] = exact
        scored[row, movie] = True
        spent += len(row)
        bar = np.partition(np.where(scored, logits, -np.inf), -length, axis=1)[:, -length]


def _masked(logits: np.ndarray, seen: csr_array, users: np.ndarray) -> np.ndarray:
    """The logits with ``-inf`` at seen movies, in place."""
    logits[seen[users].toarray()] = -np.inf
    return logits


def _blocks(users: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(users), _BLOCK):
        yield users[start : start + _BLOCK]


def _put(lists: TopLists, users: np.ndarray, found: TopLists) -> None:
    lists.movies[users], lists.scores[users] = found.movies, found.scores
