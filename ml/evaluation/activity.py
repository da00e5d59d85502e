"""Evaluate models separately for users with few and with many training ratings."""

import numpy as np
import pandas as pd

from ml import schema
from ml.evaluation.classification import auc
from ml.evaluation.ranking import RANKING_METRICS, ranking_metrics_by_user

COLD = 5  # training ratings; a user with fewer is cold
GROUPS = ("cold", "light", "medium", "heavy")


def activity_groups(train_interactions: pd.DataFrame, user_ids: np.ndarray) -> pd.Series:
    """Assign each user to an activity group.

    A user with fewer than ``COLD`` training ratings is ``cold``. The other groups are the terciles, by number of
    ratings, of all training users who are not cold: ``light`` if less than a third of them have fewer ratings than the
    user, ``medium`` if less than two thirds have, otherwise ``heavy``. Users with the same number of ratings are
    always in the same group, so groups may differ in size or be empty.

    Args:
        train_interactions: encoded training rows: user_id.
        user_ids: int [users], user indices, with or without training rows.

    Returns:
        One of ``GROUPS`` for each user (str), in the order of ``user_ids`` and indexed by them.
    """
    ratings = train_interactions["user_id"].value_counts()
    active = np.sort(ratings[ratings >= COLD].to_numpy())
    counts = ratings.reindex(user_ids, fill_value=0).to_numpy()
    tercile = 3 * np.searchsorted(active, counts, side="left") // max(len(active), 1)
    group = np.where(counts < COLD, 0, 1 + np.minimum(tercile, 2))
    return pd.Series(np.array(GROUPS)[group], index=pd.Index(user_ids, name="user_id"), name="group", dtype="str")


def metrics_by_activity(
    model: str, train_interactions: pd.DataFrame, test_interactions: pd.DataFrame, scores: np.ndarray
) -> pd.DataFrame:
    """Compute metrics of one model's scores in each activity group.

    Args:
        model: value of the ``model`` column.
        train_interactions: encoded training rows: user_id.
        test_interactions: encoded test rows: user_id, movie_id, label.
        scores: float [rows], higher is better.

    Returns:
        One row for each of ``GROUPS`` and each metric of ``RANKING_METRICS`` and ``auc``. Columns: model, group (str);
        users (int64), the number of users that the value is computed on: for a ranking metric, the group's users with
        a positive test row, for ``auc``, those with a test row; metric (str); value (float64), NaN without users, and
        for ``auc`` also if all rows have the same label.
    """
    users, items, labels = (test_interactions[name].to_numpy() for name in ("user_id", "movie_id", schema.LABEL))
    by_user = ranking_metrics_by_user(users, items, labels, scores)
    ids, row_user = np.unique(users, return_inverse=True)
    groups = activity_groups(train_interactions, ids)
    parts = []
    for group in GROUPS:
        in_group = groups == group
        own = by_user[in_group.loc[by_user.index]]
        rows = in_group.to_numpy()[row_user]
        values = dict(own.mean())
        values["auc"] = auc(labels[rows], scores[rows])
        counts = [len(own)] * len(RANKING_METRICS) + [int(in_group.sum())]
        part = {"model": model, "group": group, "users": counts, "metric": list(values), "value": list(values.values())}
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)
