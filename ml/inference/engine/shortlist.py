"""Find the top lists of all users from a small share of the pairs; they are those of brute force.

1. some users, sampled at random, are scored against every movie, and all users are split into two halves; the scored
   users of one half tell how to predict the rows of the other;
2. where the network has collaborative features, they are known for all pairs at no cost, and most of a logit depends on
   them: a regression on them is the outline of every row (``outline``);
3. at a fixed moment the rest is close to low rank, for any model: a user is scored on a few probe movies, and the
   conditional mean of the rest of the row, given these, is added to the outline (the best linear prediction,
   Rasmussen and Williams 2006, eq. 2.19);
4. a user's best predicted movies are scored exactly, and more of them, until no unscored movie's prediction, plus the
   error measured on sampled users, reaches the last listed exact score;
5. the audit: the users that are scored against every movie are searched like any others, with predictions that were
   not fitted on them, and their lists are compared with the exact ones. After a difference the search starts again
   with more of everything, and in the end with brute force.

At a further moment the probes of the first one are used again: they already tell each user's taste.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
from scipy.sparse import csr_array
from threadpoolctl import ThreadpoolController

from ml.inference.engine.found import Found
from ml.inference.engine.outline import Outline
from ml.inference.engine.prediction import CAUTION, FEWEST_PROBES, LOWEST, Prediction, best_probes, last_listed
from ml.inference.engine.top_k import TopLists, cut
from ml.processors import available_processors

Method = Literal["shortlist", "brute_force"]

AUDITED = 256  # users scored in full at the first moment, at least
AUDITED_FURTHER = 128  # at each further moment, at least
_LARGEST_AUDIT = 0.2  # of all users; beyond it brute force costs little more
_BLOCK, _CELLS = 512, 2**24  # users whose rows are in memory at a time, at most, and numbers in these rows
# Factor on the assumed errors where the outline extrapolates: those measured on the sampled users do not hold there.
_EXTRAPOLATION = np.float32(3)


class Catalogue(Protocol):
    """The logits of all pairs of users and movies at one moment, for any model; called by several threads at once."""

    shape: tuple[int, int]

    def pairs(self, users: np.ndarray, movies: np.ndarray) -> np.ndarray:
        """Logits float32 [n] of user and movie indices int [n]."""
        ...

    def rows(self, users: np.ndarray) -> np.ndarray:
        """Logits float32 [n, movies] of user indices int [n]."""
        ...

    def numbers(self, users: np.ndarray, movies: np.ndarray | slice) -> np.ndarray:
        """Numbers on which the logits depend, known for all pairs at no cost: the collaborative features, if any.

        float32 [n, numbers, m] of user indices int [n] and movie indices int [m], or a slice of all movies.
        """
        ...


@dataclass(frozen=True)
class SearchReport:
    """How lists were found.

    Attributes:
        method: ``shortlist`` or ``brute_force``.
        attempts: number of searches until the audit found no difference.
        sampled_users: users on whom the predictions of each half were fitted in the last attempt.
        probe_movies: the larger of the two halves' numbers in the last attempt. A further moment uses the first one's.
        audited_users: users whose lists were compared with brute force in the last attempt.
        differences: their lists that differed in the last attempt by more than the order of equal scores.
        pairs_scored: in all attempts, including audits.
        pairs_total: users times movies.
        shards: parts of the users that were searched on their own; counts are sums over them, and the other figures
            the largest ones.
    """

    method: str
    attempts: int
    sampled_users: int
    probe_movies: int
    audited_users: int
    differences: int
    pairs_scored: int
    pairs_total: int
    shards: int = 1

    @classmethod
    def joined(cls, reports: Sequence["SearchReport"]) -> "SearchReport":
        """Join the reports of shards."""
        return cls(
            method=max(report.method for report in reports),  # shortlist, unless all are brute_force
            attempts=max(report.attempts for report in reports),
            sampled_users=max(report.sampled_users for report in reports),
            probe_movies=max(report.probe_movies for report in reports),
            audited_users=sum(report.audited_users for report in reports),
            differences=sum(report.differences for report in reports),
            pairs_scored=sum(report.pairs_scored for report in reports),
            pairs_total=sum(report.pairs_total for report in reports),
            shards=sum(report.shards for report in reports),
        )


def search_by_brute_force(
    catalogues: Sequence[Catalogue], seen: csr_array, length: int, on_progress: Callable[[int], None]
) -> list[tuple[TopLists, SearchReport]]:
    """Find the lists of all users at one or more moments by scoring every pair; arguments as in ``search``."""
    users = catalogues[0].shape[0]
    results = []
    for number, catalogue in enumerate(catalogues):
        lists = TopLists.empty(users, length)
        for block in _blocks(np.arange(users), catalogue.shape[1]):
            lists.put(block, cut(_masked(catalogue.rows(block), seen, block), length))
            on_progress(number * users + int(block[-1]) + 1)
        pairs = users * catalogue.shape[1]
        results.append((lists, SearchReport("brute_force", 1, 0, 0, 0, 0, pairs, pairs)))
    return results


def search(
    catalogues: Sequence[Catalogue], seen: csr_array, length: int, seed: int, on_progress: Callable[[int], None]
) -> list[tuple[TopLists, SearchReport]]:
    """Find the lists of all users at one or more moments from a small share of the pairs, and audit them.

    Args:
        catalogues: give the logits, one per moment.
        seen: bool [users, movies], true where a movie must not be listed.
        length: k.
        seed: of the samples and of the audits.
        on_progress: called with the number of finished lists, over all moments.
    """
    users = catalogues[0].shape[0]
    order = np.random.default_rng(seed).permutation(users)
    tastes: _Tastes | None = None
    results = []
    for number, catalogue in enumerate(catalogues):

        def report(done: int, before: int = number * users) -> None:
            on_progress(before + done)

        moment = _Moment(catalogue, seen, length, order, report)
        # Blocks of users share the processors; matrix products with threads of their own would compete with them.
        with ThreadpoolController().limit(limits=1, user_api="blas"):
            lists, found, tastes = moment.search(tastes)
        results.append((lists, found))
    return results


_Tastes = tuple[np.ndarray, np.ndarray]  # of each half: its probe movies' deviations from outlines, [users, probes]


class _Moment:
    """The search at one moment.

    ``order`` is a random order of the users: the first ones are scored in full, and the halves alternate.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        seen: csr_array,
        length: int,
        order: np.ndarray,
        on_progress: Callable[[int], None],
    ) -> None:
        self._catalogue, self._seen, self._length = catalogue, seen, length
        self._order, self._on_progress = order, on_progress
        self._rows = np.empty((0, catalogue.shape[1]), np.float32)  # of the first users in ``order``, scored in full
        self._outlines: list[Outline] = []  # of each half: fitted on its users who are scored in full
        self._spent = self._attempts = 0

    def search(self, tastes: _Tastes | None) -> tuple[TopLists, SearchReport, _Tastes | None]:
        """Find the lists; gives them, how they were found, and the tastes for the next moment.

        Args:
            tastes: of an earlier moment; None: probe movies are chosen and scored.
        """
        users, movies = self._catalogue.shape
        if tastes and (lists := self._attempt(AUDITED_FURTHER, CAUTION, tastes)):
            return lists, self._report(AUDITED_FURTHER, tastes), tastes
        audited, caution = AUDITED, CAUTION
        while audited <= _LARGEST_AUDIT * users and movies >= FEWEST_PROBES:
            self._score_rows(audited)
            tastes = self._probe(0), self._probe(1)
            if lists := self._attempt(audited, caution, tastes):
                return lists, self._report(audited, tastes), tastes
            audited, caution = 2 * audited, 2 * caution
        [(lists, report)] = search_by_brute_force([self._catalogue], self._seen, self._length, self._on_progress)
        spent = report.pairs_scored + self._spent
        return lists, replace(report, attempts=self._attempts + 1, pairs_scored=spent), tastes

    def _report(self, audited: int, tastes: _Tastes) -> SearchReport:
        users, movies = self._catalogue.shape
        probes = max(taste.shape[1] for taste in tastes)
        facts = (self._attempts, audited // 2, probes, audited, 0, self._spent, users * movies)
        return SearchReport("shortlist", *facts)

    def _attempt(self, audited: int, caution: float, tastes: _Tastes) -> TopLists | None:
        """Find the lists of all users; None where the audit finds a difference."""
        self._attempts += 1
        self._score_rows(audited)
        lists = TopLists.empty(len(self._order), self._length)
        for half, taste in enumerate(tastes):
            self._search_half(lists, half, self._rows[half:audited:2], caution, taste)
        first = self._order[:audited]
        exact = cut(_masked(self._rows[:audited].copy(), self._seen, first), self._length)
        if lists.of(first).differences(exact):
            return None
        lists.put(first, exact)
        return lists

    def _score_rows(self, count: int) -> None:
        added = self._order[len(self._rows) : count]
        if not len(added):
            return
        self._rows = np.concatenate([self._rows, self._catalogue.rows(added)])
        self._spent += len(added) * self._catalogue.shape[1]
        self._outlines = []
        for half in (0, 1):
            users = self._order[half:count:2]
            rows, seen = self._rows[half::2], self._seen[users].toarray()
            self._outlines.append(Outline(self._catalogue.numbers, users, rows, seen))

    def _probe(self, half: int) -> np.ndarray:
        """How the best predicting movies deviate from outlines [users, p]; 0 for users who need no prediction."""
        outline, sampled, others = self._outlines[half], *np.split(self._order, [len(self._rows)])
        own, seen = self._rows[half::2], self._seen[sampled[half::2]].toarray()
        probes = best_probes(own, outline.rows(sampled[half::2]), seen, self._length)
        taste = np.zeros((len(self._order), len(probes)), np.float32)
        taste[sampled] = self._rows[:, probes] - outline.rows(sampled, probes)
        others = others[(np.arange(len(others)) + len(self._rows)) % 2 != half]
        exact = self._catalogue.pairs(*_grid(others, probes)).reshape(len(others), -1)
        taste[others] = exact - outline.rows(others, probes)
        self._spent += len(others) * len(probes)
        return taste

    def _search_half(self, lists: TopLists, half: int, rows: np.ndarray, caution: float, taste: np.ndarray) -> None:
        """Set the lists of all users of the other half."""
        known, outline = self._order[half : 2 * len(rows) : 2], self._outlines[half]
        seen = self._seen[known].toarray()
        prediction = Prediction.fit(taste[known], rows, outline.rows(known), seen, self._length)
        targets = self._order[1 - half :: 2]
        done = half * (len(self._order) - len(targets))

        def work(block: np.ndarray) -> tuple[TopLists, int]:
            logits, is_beyond = outline.whole_rows(block)
            logits += prediction.deviations(taste[block])
            _masked(logits, self._seen, block)
            spread = np.where(is_beyond, _EXTRAPOLATION * prediction.spread, prediction.spread)
            return self._search_block(block, logits, spread, caution * prediction.error)

        blocks = list(_blocks(targets, rows.shape[1]))
        with ThreadPoolExecutor(available_processors()) as pool:
            for block, (found, spent) in zip(blocks, pool.map(work, blocks), strict=True):
                lists.put(block, found)
                self._spent += spent
                done += len(block)
                self._on_progress(done)

    def _search_block(
        self, users: np.ndarray, predicted: np.ndarray, spread: np.ndarray, caution: float
    ) -> tuple[TopLists, int]:
        """Find the lists of some users from predicted rows [n, movies], and how many pairs that took.

        Args:
            users: indices [n].
            predicted: ``-inf`` where a movie must not be listed; overwritten.
            spread: of the errors [n, movies].
            caution: assumed largest error of a prediction, in spreads.
        """
        cautions = np.full((len(users), 1), caution, np.float32)
        bars = last_listed(predicted, self._length)
        found = Found.nothing(len(users), self._length)
        spent = 0
        active = np.arange(len(users))  # users whose lists may still change
        while True:
            everyone = len(active) == len(users)
            hopes, spreads = (predicted, spread) if everyone else (predicted[active], spread[active])
            hopes = hopes + cautions[active] * spreads
            worth = np.flatnonzero(hopes >= np.maximum(bars, LOWEST)[active, None])
            position, movie = np.divmod(worth, predicted.shape[1])
            if not len(position):
                return found.lists(), spent
            row = active[position]
            exact = self._catalogue.pairs(users[row], movie)
            # More movies are scored for a user whose movies' logits exceed their predictions more than others'.
            np.maximum.at(cautions[:, 0], row, CAUTION * (exact - predicted[row, movie]) / spread[row, movie])
            predicted[row, movie] = -np.inf  # its exact logit is known now
            found = found.with_more(row, movie, exact)
            spent += len(row)
            active = np.unique(row)
            bars = found.last_listed()


def _grid(users: np.ndarray, movies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All pairs, user by user."""
    return np.repeat(users, len(movies)), np.tile(movies, len(users))


def _masked(logits: np.ndarray, seen: csr_array, users: np.ndarray) -> np.ndarray:
    """Set the logits of seen movies to ``-inf``, in place."""
    logits[seen[users].toarray()] = -np.inf
    return logits


def _blocks(users: np.ndarray, movies: int) -> Iterator[np.ndarray]:
    size = max(min(_BLOCK, _CELLS // movies), 1)
    for start in range(0, len(users), size):
        yield users[start : start + size]
