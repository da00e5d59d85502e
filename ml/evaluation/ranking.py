"""Ranking metrics over each user's own test rows, for all users at once.

Two families with names of their own. The standard one cuts the ideal ranking at k. The reference one, by which the
reference implementation reports its figures, sums the ideal over all of the user's positives.
"""

import numpy as np
import pandas as pd

RANKING_METRICS = ("ndcg_at_10", "recall_at_10", "hit_rate_at_10", "ndcg_at_10_reference", "recall_at_10_reference")
_K = 10


def ranking_metrics_by_user(
    users: np.ndarray, items: np.ndarray, labels: np.ndarray, scores: np.ndarray
) -> pd.DataFrame:
    """Metrics at k = 10 of every user with at least one positive row.

    A user's rows are ranked by falling score, equal scores by rising item. With gain 1 for a positive and discount
    ``1 / log2(rank + 1)``:

    - ``ndcg_at_10``: DCG of the top 10 by the DCG of min(10, positives) positives in the first places
      (Järvelin and Kekäläinen, 2002).
    - ``ndcg_at_10_reference``: the same DCG by the ideal DCG of all positives, not cut at 10.
    - ``recall_at_10`` and ``recall_at_10_reference``: positives in the top 10 by all positives. The reference calls it
      "hit rate"; the two are one formula and are reported under both names so that each family stands whole.
    - ``hit_rate_at_10``: 1 where the top 10 hold a positive, else 0.

    Args:
        users: [rows] int, the user of a row.
        items: [rows] int, the item of a row.
        labels: [rows], 1 for a positive, 0 for a negative.
        scores: [rows] float, the higher the better.

    Returns:
        Float64 columns as in ``RANKING_METRICS``, one row a user, indexed by user.
    """
    order = np.lexsort((items, -np.asarray(scores, dtype=np.float64), users))
    user, positive = np.asarray(users)[order], np.asarray(labels)[order].astype(np.float64)
    ids, starts, group = np.unique(user, return_index=True, return_inverse=True)
    rank = np.arange(len(user)) - starts[group] + 1
    discount = 1 / np.log2(rank + 1)
    in_top = rank <= _K

    positives = np.bincount(group, positive).astype(np.int64)
    hits = np.bincount(group, positive * in_top)
    dcg = np.bincount(group, positive * in_top * discount)
    ideal = np.concatenate([[0.0], np.cumsum(1 / np.log2(np.arange(1, positives.max(initial=1) + 1) + 1))])

    kept = positives > 0
    positives, hits, dcg = positives[kept], hits[kept], dcg[kept]
    recall = hits / positives
    metrics = {
        "ndcg_at_10": dcg / ideal[np.minimum(positives, _K)],
        "recall_at_10": recall,
        "hit_rate_at_10": (hits > 0).astype(np.float64),
        "ndcg_at_10_reference": dcg / ideal[positives],
        "recall_at_10_reference": recall,
    }
    return pd.DataFrame(metrics, index=pd.Index(ids[kept], name="user_id"))[list(RANKING_METRICS)]
