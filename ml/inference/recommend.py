"""Recommend to a user the unseen movies with the highest probability of a like."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from ml import schema
from ml.inference.diversity import Diversity
from ml.inference.engine.shortlist import Method, SearchReport
from ml.inference.engine.top_k import TopLists, cut
from ml.inference.scorer import Scorer
from ml.inference.shards import Means, Search, search_all

METHODS = get_args(Method)


@dataclass(frozen=True)
class Progress:
    """How far a long computation has come."""

    done: int
    total: int


def search_lists(
    scorer: Scorer,
    seen: csr_array,
    moments: Sequence[tuple[int, int]],
    top_k: int = 10,
    method: Method = "shortlist",
    seed: int = 42,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    means: Means | None = None,
) -> list[tuple[TopLists, SearchReport]]:
    """Search the top lists of all users at one or more moments; arguments and errors as in ``recommend_all``.

    Args:
        scorer: of the model.
        seen: bool [users, movies], true where a movie must not be listed.
        moments: years and months.
        top_k: length of a list.
        method: of the search.
        seed: of the search.
        on_progress: called after each block of users.
        means: how the search is carried out; default: here, and nothing is kept of an interrupted one.

    Returns:
        For each moment the lists, as diverse as the bundle says, and how their candidates were found.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r}; expected one of {', '.join(METHODS)}")
    for moment in moments:
        scorer.catalogue(*moment)  # raises for an unknown one
    total = len(scorer.user_ids) * len(moments)
    diversity = diversity_of(scorer)
    request = Search(scorer, seen, moments, diversity.candidates(_positive(top_k)), method, seed)
    found = search_all(request, lambda done: on_progress(Progress(done, total)), means)
    return [(diversity.choose(lists, top_k), how) for lists, how in found]


def diversity_of(scorer: Scorer) -> Diversity:
    """How diverse the lists of a scorer's bundle are."""
    return Diversity(scorer.bundle.diversity, scorer.bundle.movies["genres"])


class Recommender:
    """Ranks all movies that a user has not rated.

    Attributes:
        scorer: as given.

    Args:
        scorer: gives the probabilities.
        ratings: user_id, movie_id of all ratings. A rated movie is never recommended to its user.
    """

    def __init__(self, scorer: Scorer, ratings: pd.DataFrame) -> None:
        self.scorer = scorer
        self._seen = scorer.known_pairs(ratings, bool)
        self._diversity = diversity_of(scorer)
        self._shown = {name: scorer.bundle.movies[name].to_numpy(object) for name in ("title", "genres")}

    def recommend(
        self, user_id: schema.Id, year: int, month: int, top_k: int = 10, among: Collection[schema.Id] | None = None
    ) -> pd.DataFrame:
        """List one user's best movies; columns as in ``recommend_all``.

        Args:
            user_id: the user's id.
            year: of the imagined rating.
            month: of the imagined rating, 1-12.
            top_k: length of the list; shorter where the user has fewer unseen movies.
            among: ids of the movies that may be listed; default: all.

        Raises:
            NotFoundError: an unknown user, or a year or month that the model was not trained on.
        """
        user = self.scorer.indices("user_id", [user_id])
        logits = self.scorer.catalogue(year, month).rows(user)
        logits[self._seen[user].toarray()] = -np.inf
        self._exclude_others(logits, among)
        return self._table(user, self._best(logits, top_k), year, month)

    def ranked(
        self,
        logits: np.ndarray,
        hidden: Collection[schema.Id],
        year: int,
        month: int,
        top_k: int,
        among: Collection[schema.Id] | None = None,
    ) -> pd.DataFrame:
        """List the best movies of somebody who is not a known user.

        Args:
            logits: float32 [1, movies]; overwritten.
            hidden: ids of movies that are not listed.
            year: of the imagined rating.
            month: of the imagined rating, 1-12.
            top_k: length of the list.
            among: ids of the movies that may be listed; default: all.

        Returns:
            Columns as in ``recommend_all``, without user_id.
        """
        logits[:, pd.Index(self.scorer.movie_ids).isin(list(hidden))] = -np.inf
        self._exclude_others(logits, among)
        return self._table(np.array([0]), self._best(logits, top_k), year, month).drop(columns="user_id")

    def _best(self, logits: np.ndarray, top_k: int) -> TopLists:
        """The lists of rows of logits, float32 [users, movies]."""
        candidates = cut(logits, self._diversity.candidates(_positive(top_k)))
        return self._diversity.choose(candidates, top_k)

    def _exclude_others(self, logits: np.ndarray, among: Collection[schema.Id] | None) -> None:
        if among is not None:
            logits[:, ~pd.Index(self.scorer.movie_ids).isin(list(among))] = -np.inf

    def recommend_all(
        self,
        moments: Sequence[tuple[int, int]],
        top_k: int = 10,
        method: Method = "shortlist",
        seed: int = 42,
        on_progress: Callable[[Progress], None] = lambda progress: None,
        means: Means | None = None,
    ) -> list[tuple[pd.DataFrame, SearchReport]]:
        """List the best movies of all users at one or more moments; a further moment costs less than the first.

        Args:
            moments: years and months (1-12) of the imagined ratings.
            top_k: length of a list; shorter where a user has fewer unseen movies.
            method: ``shortlist`` (see ``ml.inference.engine.shortlist``) or ``brute_force``; both give the same lists.
            seed: of the users that ``shortlist`` samples and audits.
            on_progress: called after each block of users.
            means: how the search is carried out; default: here, and nothing is kept of an interrupted one.

        Returns:
            For each moment its lists and how they were found. Columns of the lists: user_id (int32 or str), rank
            (int16, from 1), movie_id (int32 or str), title, genres (str), score (float32, the probability of a like),
            rating_year (int16), rating_month (int8); ordered by user and rank. Users, and movies with equal scores, are
            in the order of the feature map.

        Raises:
            NotFoundError: a year or month that the model was not trained on.
            ValueError: ``top_k`` below 1 or an unknown method.
        """
        found = search_lists(self.scorer, self._seen, moments, top_k, method, seed, on_progress, means)
        everyone = np.arange(len(self.scorer.user_ids))
        return [
            (self._table(everyone, lists, *moment), report)
            for moment, (lists, report) in zip(moments, found, strict=True)
        ]

    def _table(self, users: np.ndarray, lists: TopLists, year: int, month: int) -> pd.DataFrame:
        row, place, movie = lists.entries()
        return pd.DataFrame(
            {
                "user_id": _column(self.scorer.user_ids[users[row]]),
                "rank": (place + 1).astype(np.int16),
                "movie_id": _column(self.scorer.movie_ids[movie]),
                "title": pd.Series(self._shown["title"][movie], dtype="str"),
                "genres": pd.Series(self._shown["genres"][movie], dtype="str"),
                "score": lists.scores[row, place],
                "rating_year": np.int16(year),
                "rating_month": np.int8(month),
            }
        )


def _column(ids: np.ndarray) -> pd.Series:
    """Return ids as a column of a table: int32 or str."""
    return pd.Series(ids, dtype="int32" if schema.id_type(ids) is int else "str")


def _positive(top_k: int) -> int:
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    return top_k
