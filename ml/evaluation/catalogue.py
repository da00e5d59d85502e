"""Evaluate top-10 lists over the whole catalog.

Every item without a training row by the user is a candidate, rated or not, so a hit is far rarer than among the user's
own test rows. The positives are the test rows with label 1.
"""

import numpy as np
import pandas as pd

from ml import schema
from ml.features.genres import jaccard

CATALOGUE_USER_METRICS = ("catalogue_ndcg_at_10", "catalogue_recall_at_10", "catalogue_hit_rate_at_10")
CATALOGUE_METRICS = (
    *CATALOGUE_USER_METRICS,
    "catalogue_coverage_at_10",
    "catalogue_mean_popularity_at_10",
    "catalogue_list_overlap_at_10",
    "catalogue_list_similarity_at_10",
    "catalogue_unbiased_recall_at_10",
)
_K = 10
_NONE, _USERS = -1, 2**12  # no movie; lists whose similarities are in memory at a time
_KEY = ["user_id", "movie_id"]


def catalogue_metrics_by_user(test_interactions: pd.DataFrame, lists: pd.DataFrame) -> pd.DataFrame:
    """Compute metrics at k = 10 for every user with at least one positive test row.

    - ``catalogue_ndcg_at_10``: DCG divided by the ideal DCG, with gain 1 for a positive and discount
      ``1 / log2(rank + 1)``; the ideal list starts with min(10, positives) positives (Järvelin and Kekäläinen, 2002).
    - ``catalogue_recall_at_10``: number of listed positives divided by the number of positives.
    - ``catalogue_hit_rate_at_10``: 1 if a positive is listed, otherwise 0.

    The metrics of a user without a list are 0.

    Args:
        test_interactions: encoded test rows: user_id, movie_id, label.
        lists: user_id, movie_id (indices) and rank (int, from 1), one row per listed item, in any order; ranks above 10
            do not count.

    Returns:
        Float64 columns as in ``CATALOGUE_USER_METRICS``, one row per user, indexed by user_id.

    Raises:
        ValueError: a user's list has an item or a rank twice, or a rank below 1.
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
    train_interactions: pd.DataFrame, test_interactions: pd.DataFrame, lists: pd.DataFrame, genres: np.ndarray
) -> dict[str, float]:
    """Compute metrics at k = 10 of all lists together.

    These are the means of ``catalogue_metrics_by_user`` and, over all lists, also of users without positives:

    - ``catalogue_coverage_at_10``: number of distinct listed items divided by the number of items.
    - ``catalogue_mean_popularity_at_10``: number of training rows of the item in a slot, averaged over all slots.
    - ``catalogue_list_overlap_at_10``: number of items that two lists share divided by 10, averaged over all pairs of
      users with a list. The divisor is 10 even if a list is shorter because its user has fewer unseen items.
    - ``catalogue_list_similarity_at_10``: intra-list similarity (Ziegler et al., WWW 2005): the Jaccard similarity of
      two items' genres, averaged over the pairs of items in a list, then over the lists with at least two items.
    - ``catalogue_unbiased_recall_at_10``: recall whose positives weigh the inverse of their propensity (Yang et al.,
      RecSys 2018, self-normalized, with gamma = 1), averaged over users with positives. A popular item is watched, and
      so becomes a test row, more often than people would like it; its propensity is its number of training rows, at
      least 1.

    Args:
        train_interactions: encoded training rows: user_id, movie_id.
        test_interactions: encoded test rows: user_id, movie_id, label.
        lists: as for ``catalogue_metrics_by_user``.
        genres: ``genre_sets`` of all items.

    Returns:
        Values as in ``CATALOGUE_METRICS``, in that order. NaN if there is nothing to average: no user with a positive,
        no lists, or, for the overlap, fewer than two lists, or, for the similarity, no list of two items or no genres.

    Raises:
        ValueError: as ``catalogue_metrics_by_user``, or a list has an item from the user's training rows, or an index
            that is not below the number of items.
    """
    movies = len(genres)
    _refuse(lists[~lists["movie_id"].between(0, movies - 1)], f"is not one of {movies} items")
    _refuse(lists.merge(train_interactions[_KEY], on=_KEY), "is listed, but it is in the user's training rows")
    by_user = catalogue_metrics_by_user(test_interactions, lists)

    top = _top(lists)
    lists_with = np.bincount(top["movie_id"], minlength=movies)  # number of lists per item
    popularity = np.bincount(train_interactions["movie_id"], minlength=movies)
    listed_users = top["user_id"].nunique()
    pairs = listed_users * (listed_users - 1) // 2
    shared = int((lists_with * (lists_with - 1) // 2).sum())  # an item in c lists is shared by c * (c - 1) / 2 pairs
    return {
        **{name: float(by_user[name].mean()) for name in CATALOGUE_USER_METRICS},
        "catalogue_coverage_at_10": float((lists_with > 0).sum() / movies),
        "catalogue_mean_popularity_at_10": float(popularity @ lists_with / len(top)) if len(top) else np.nan,
        "catalogue_list_overlap_at_10": shared / (pairs * _K) if pairs else np.nan,
        "catalogue_list_similarity_at_10": _list_similarity(top, genres),
        "catalogue_unbiased_recall_at_10": _unbiased_recall(test_interactions, top, popularity),
    }


def _unbiased_recall(test_interactions: pd.DataFrame, top: pd.DataFrame, popularity: np.ndarray) -> float:
    """Average the share of each user's weighted positives that is listed."""
    liked = test_interactions.loc[test_interactions[schema.LABEL] == 1, _KEY]
    listed = liked.merge(top[_KEY], on=_KEY, how="left", indicator=True)["_merge"].eq("both").to_numpy()
    weight = 1 / np.maximum(popularity[liked["movie_id"]], 1)
    user, users = pd.factorize(liked["user_id"])
    shares = np.bincount(user, weight * listed, len(users)) / np.bincount(user, weight, len(users))
    return float(shares.mean()) if len(users) else float("nan")


def _list_similarity(top: pd.DataFrame, genres: np.ndarray) -> float:
    """Average the similarity of the items of a list, over the lists with at least two."""
    if not genres.shape[1]:
        return float("nan")
    row, users = pd.factorize(top["user_id"])
    movies = np.full((len(users), _K), _NONE)
    movies[row, top.groupby("user_id").cumcount()] = top["movie_id"]
    several = movies[(movies != _NONE).sum(axis=1) > 1]
    found = [_similarities(several[start : start + _USERS], genres) for start in range(0, len(several), _USERS)]
    return float(np.concatenate(found).mean()) if found else float("nan")


def _similarities(movies: np.ndarray, genres: np.ndarray) -> np.ndarray:
    """Average the similarity within each list, int [lists, 10] with ``_NONE`` at the end of short ones."""
    listed = movies != _NONE
    pairs = listed[:, :, None] & listed[:, None, :] & ~np.eye(_K, dtype=bool)
    similarity = jaccard(genres[np.maximum(movies, 0)]).astype(np.float64)
    means: np.ndarray = similarity.mean(axis=(1, 2), where=pairs)
    return means


def _top(lists: pd.DataFrame) -> pd.DataFrame:
    """Return the slots that count, sorted, so that sums do not depend on the order of rows."""
    return lists[lists["rank"] <= _K].sort_values(["user_id", "rank"])


def _check_lists(lists: pd.DataFrame) -> None:
    _refuse(lists[lists.duplicated(_KEY)], "is listed twice")
    _refuse(lists[lists["rank"] < 1], "has a rank below 1")
    _refuse(lists[lists.duplicated(["user_id", "rank"])], "has the same rank as another item")


def _refuse(rows: pd.DataFrame, problem: str) -> None:
    if len(rows):
        user, movie = rows[_KEY].iloc[0]
        raise ValueError(f"user {user}: item {movie} {problem}")
