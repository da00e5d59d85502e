"""Compute ranking metrics over each user's own test rows, for all users at once.

There are two families. The standard one cuts the ideal ranking at k. The ``_reference`` one, used by the reference
implementation, sums the ideal DCG over all of the user's positives.
"""

import numpy as np
import pandas as pd

RANKING_METRICS = ("ndcg_at_10", "recall_at_10", "hit_rate_at_10", "ndcg_at_10_reference", "recall_at_10_reference")
_K = 10


def ranking_metrics_by_user(
    users: np.ndarray, items: np.ndarray, labels: np.ndarray, scores: np.ndarray
) -> pd.DataFrame:
    """Compute metrics at k = 10 for every user with at least one positive row.

    A user's rows are ranked by decreasing score; ties by increasing item. DCG has gain 1 for a positive and discount
    ``1 / log2(rank + 1)``:

    - ``ndcg_at_10``: DCG of the top 10 divided by the DCG of a list with min(10, positives) positives at the top
      (Järvelin and Kekäläinen, 2002).
    - ``ndcg_at_10_reference``: the same DCG divided by the ideal DCG of all positives, not cut at 10.
    - ``recall_at_10`` and ``recall_at_10_reference``: number of positives in the top 10 divided by the number of
      positives. The reference calls this "hit rate". Both have the same formula; each family includes it.
    - ``hit_rate_at_10``: 1 if the top 10 contain a positive, otherwise 0.

    Args:
        users: int [rows], user of each row.
        items: int [rows], item of each row.
        labels: [rows], 1 for a positive, 0 for a negative.
        scores: float [rows], higher is better.

    Returns:
        Float64 columns as in ``RANKING_METRICS``, one row per user, indexed by user_id.
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
