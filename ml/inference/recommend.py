"""What a user should see next: the unseen movies that the model thinks likeliest to be liked."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import pandas as pd
from scipy import sparse

from ml.inference.engine.shortlist import Method, SearchReport, search, search_by_brute_force
from ml.inference.engine.top_k import MISSING, TopLists, cut
from ml.inference.scorer import Scorer

METHODS = get_args(Method)


@dataclass(frozen=True)
class Progress:
    """How far a long computation is."""

    done: int
    total: int


class Recommender:
    """Ranks every movie that a user has not rated.

    Args:
        scorer: gives the probabilities.
        ratings: user_id, movie_id of all ratings, whose movies are never recommended to their users again.
    """

    def __init__(self, scorer: Scorer, ratings: pd.DataFrame) -> None:
        self.scorer = scorer
        known = ratings["user_id"].isin(scorer.user_ids) & ratings["movie_id"].isin(scorer.movie_ids)
        rows = scorer.positions("user_id", ratings.loc[known, "user_id"])
        columns = scorer.positions("movie_id", ratings.loc[known, "movie_id"])
        shape = (len(scorer.user_ids), len(scorer.movie_ids))
        self._seen = sparse.csr_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=shape)

    def recommend(
        self, user_id: int, year: int, month: int, top_k: int = 10, among: Collection[int] | None = None
    ) -> pd.DataFrame:
        """The top list of one user; columns as in ``recommend_all``.

        Args:
            user_id: who.
            year: of the imagined rating.
            month: of the imagined rating, 1-12.
            top_k: length of the list; shorter where the user has fewer unseen movies.
            among: ids of the movies that may be listed; default: all.

        Raises:
            NotFoundError: an unknown user, or a year or month that the model was not trained on.
        """
        user = np.array([self.scorer.user_position(user_id)])
        logits = self.scorer.catalogue(year, month).rows(user)
        logits[self._seen[user].toarray()] = -np.inf
        self._keep(logits, among)
        return self._table(user, cut(logits, _positive(top_k)), year, month)

    def ranked(
        self,
        logits: np.ndarray,
        hidden: Collection[int],
        year: int,
        month: int,
        top_k: int,
        among: Collection[int] | None = None,
    ) -> pd.DataFrame:
        """The top list of somebody who is no known user, from logits float32 [1, movies], without ``hidden`` movies.

        Columns as in ``recommend_all``, without user_id.
        """
        logits[:, pd.Index(self.scorer.movie_ids).isin(list(hidden))] = -np.inf
        self._keep(logits, among)
        return self._table(np.array([0]), cut(logits, _positive(top_k)), year, month).drop(columns="user_id")

    def _keep(self, logits: np.ndarray, among: Collection[int] | None) -> None:
        if among is not None:
            logits[:, ~pd.Index(self.scorer.movie_ids).isin(list(among))] = -np.inf

    def recommend_all(
        self,
        moments: Sequence[tuple[int, int]],
        top_k: int = 10,
        method: Method = "shortlist",
        seed: int = 42,
        on_progress: Callable[[Progress], None] = lambda progress: None,
    ) -> list[tuple[pd.DataFrame, SearchReport]]:
        """The top lists of all users at one or more moments; a further moment costs less than the first.

        Args:
            moments: years and months (1-12) of the imagined ratings.
            top_k: length of a list; shorter where a user has fewer unseen movies.
            method: ``shortlist`` (see ``ml.inference.engine.shortlist``) or ``brute_force``; both give the same lists.
            seed: of the users that ``shortlist`` samples and audits.
            on_progress: called after each block of users.

        Returns:
            For each moment its lists and how they were found. Columns of the lists: user_id (int32), rank (int16, from
            1), movie_id (int32), title, genres (str), score (float32, the probability of a like), rating_year (int16),
            rating_month (int8); by user and rank. Equal scores are ranked by movie_id.

        Raises:
            NotFoundError: a year or month that the model was not trained on.
            ValueError: ``top_k`` below 1 or an unknown method.
        """
        if method not in METHODS:
            raise ValueError(f"method {method!r}; expected one of {', '.join(METHODS)}")
        catalogues = [self.scorer.catalogue(year, month) for year, month in moments]
        users = len(self.scorer.user_ids)

        def report(done: int) -> None:
            on_progress(Progress(done, users * len(moments)))

        if method == "shortlist":
            found = search(catalogues, self._seen, _positive(top_k), seed, report)
        else:
            found = search_by_brute_force(catalogues, self._seen, _positive(top_k), report)
        everyone = np.arange(users)
        return [
            (self._table(everyone, lists, *moment), search_report)
            for moment, (lists, search_report) in zip(moments, found, strict=True)
        ]

    def _table(self, users: np.ndarray, lists: TopLists, year: int, month: int) -> pd.DataFrame:
        row, rank = np.nonzero(lists.movies != MISSING)
        movie = lists.movies[row, rank]
        titles = self.scorer.bundle.movies[["title", "genres"]].iloc[movie].reset_index(drop=True)
        return pd.DataFrame(
            {
                "user_id": self.scorer.user_ids[users[row]].astype(np.int32),
                "rank": (rank + 1).astype(np.int16),
                "movie_id": self.scorer.movie_ids[movie].astype(np.int32),
                "title": titles["title"],
                "genres": titles["genres"],
                "score": lists.scores[row, rank],
                "rating_year": np.int16(year),
                "rating_month": np.int8(month),
            }
        )


def _positive(top_k: int) -> int:
    if top_k < 1:
        raise ValueError(f"top_k must be at least 1, got {top_k}")
    return top_k
