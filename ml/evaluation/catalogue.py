"""Metrics of top-10 lists over the whole catalogue.

Every movie that a user has no training row of is a candidate, rated or not, so that a hit is far rarer than among the
user's own test rows. The positives are the test rows with label 1.
"""

import numpy as np
import pandas as pd

from ml import schema

CATALOGUE_USER_METRICS = ("catalogue_ndcg_at_10", "catalogue_recall_at_10", "catalogue_hit_rate_at_10")
CATALOGUE_METRICS = (
    *CATALOGUE_USER_METRICS,
    "catalogue_coverage_at_10",
    "catalogue_mean_popularity_at_10",
    "catalogue_list_overlap_at_10",
)
_K = 10
_KEY = ["user_id", "movie_id"]


def catalogue_metrics_by_user(test_interactions: pd.DataFrame, lists: pd.DataFrame) -> pd.DataFrame:
    """Metrics at k = 10 of every user with at least one positive test row.

    - ``catalogue_ndcg_at_10``: gain 1 for a positive and discount ``1 / log2(rank + 1)``, by the same of
      min(10, positives) positives in the first places (Järvelin and Kekäläinen, 2002).
    - ``catalogue_recall_at_10``: listed positives by all positives.
    - ``catalogue_hit_rate_at_10``: 1 where a positive is listed, else 0.

    A user without a list has zeros.

    Args:
        test_interactions: encoded test rows: user_id, movie_id, label.
        lists: user_id, movie_id (codes) and rank (int, from 1), one row a listed movie, in any order; ranks past 10 do
            not count.

    Returns:
        Float64 columns as in ``CATALOGUE_USER_METRICS``, one row a user, indexed by user_id.

    Raises:
        ValueError: a user's list has a movie or a rank twice, or a rank below 1.
    """
    _check_lists(lists)
    liked = test_interactions.loc[test_interactions[schema.LABEL] == 1, _KEY]
    positives = liked.groupby("user_id").size()
    hits = _top(lists).merge(liked, on=_KEY)
    user = positives.index.get_indexer(pd.Index(hits["user_id"]))
    discount = 1 / np.log2(hits["rank"].to_numpy(np.float64) + 1)

    listed = np.bincount(user, minlength=len(positives))
    dcg = np.bincount(user, discount, minlength=len(positives))
    ideal = np.cumsum(1 / np.log2(np.arange(1, _K + 1) + 1))
    metrics = {
        "catalogue_ndcg_at_10": dcg / ideal[np.minimum(positives, _K) - 1],
        "catalogue_recall_at_10": listed / positives.to_numpy(),
        "catalogue_hit_rate_at_10": (listed > 0).astype(np.float64),
    }
    return pd.DataFrame(metrics, index=positives.index)[list(CATALOGUE_USER_METRICS)]


def catalogue_metrics(
    train_interactions: pd.DataFrame, test_interactions: pd.DataFrame, lists: pd.DataFrame, movies: int
) -> dict[str, float]:
    """Metrics at k = 10 of all lists together.

    Means of ``catalogue_metrics_by_user``, and, whether or not a list's user has positives:

    - ``catalogue_coverage_at_10``: different listed movies by all movies.
    - ``catalogue_mean_popularity_at_10``: training rows of a listed movie, mean over all places of all lists.
    - ``catalogue_list_overlap_at_10``: movies that two lists share by 10, mean over all pairs of users with a list;
      by 10 also where a list is shorter, since its user has fewer unseen movies.

    Args:
        train_interactions: encoded training rows: user_id, movie_id.
        test_interactions: encoded test rows: user_id, movie_id, label.
        lists: as for ``catalogue_metrics_by_user``.
        movies: number of movie codes.

    Returns:
        Values as in ``CATALOGUE_METRICS``, in that order. NaN where there is nothing to average: no user with a
        positive, no lists, for the overlap fewer than two.

    Raises:
        ValueError: as of ``catalogue_metrics_by_user``, or a list has a movie that the user has in training or whose
            code is not below ``movies``.
    """
    _refuse(lists[~lists["movie_id"].between(0, movies - 1)], f"is not one of {movies} movies")
    _refuse(lists.merge(train_interactions[_KEY], on=_KEY), "is listed, but is in the user's training rows")
    by_user = catalogue_metrics_by_user(test_interactions, lists)

    top = _top(lists)
    lists_with = np.bincount(top["movie_id"], minlength=movies)  # of each movie
    popularity = np.bincount(train_interactions["movie_id"], minlength=movies)
    listed_users = top["user_id"].nunique()
    pairs = listed_users * (listed_users - 1) // 2
    shared = int((lists_with * (lists_with - 1) // 2).sum())  # a movie in c lists is shared by c * (c - 1) / 2 pairs
    return {
        **{name: float(by_user[name].mean()) for name in CATALOGUE_USER_METRICS},
        "catalogue_coverage_at_10": float((lists_with > 0).sum() / movies),
        "catalogue_mean_popularity_at_10": float(popularity @ lists_with / len(top)) if len(top) else np.nan,
        "catalogue_list_overlap_at_10": shared / (pairs * _K) if pairs else np.nan,
    }


def _top(lists: pd.DataFrame) -> pd.DataFrame:
    """The places that count, in one order, so that sums do not depend on the lists' order."""
    return lists[lists["rank"] <= _K].sort_values(["user_id", "rank"])


def _check_lists(lists: pd.DataFrame) -> None:
    _refuse(lists[lists.duplicated(_KEY)], "is listed twice")
    _refuse(lists[lists["rank"] < 1], "has a rank below 1")
    _refuse(lists[lists.duplicated(["user_id", "rank"])], "has the rank of another movie")


def _refuse(rows: pd.DataFrame, problem: str) -> None:
    if len(rows):
        user, movie = rows[_KEY].iloc[0]
        raise ValueError(f"user {user}: movie {movie} {problem}")
