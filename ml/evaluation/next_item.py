"""Evaluate the prediction of each user's next item: leave-one-out, as in papers on sequential recommendation.

A user's last rating in the order of time is the test item, the one before it the validation item. It is ranked among
all items that the user has not rated before, as in RecBole and in the code of gSASRec (Petrov and Macdonald, RecSys
2023) and HSTU (Zhai et al., ICML 2024), not among a sample of them (Krichene and Rendle, KDD 2020).
"""

from collections.abc import Callable

import numpy as np

from ml.features.histories import Histories

NEXT_ITEM_METRICS = ("hit_rate_at_10", "ndcg_at_10")
_K = 10
_BLOCK = 512  # users whose scores are in memory at a time
_FEWEST = 3  # ratings of a user: one to learn from, the validation item, the test item

# Returns scores, float [n, items], higher is better, for user indices int [n].
Scores = Callable[[np.ndarray], np.ndarray]


def evaluated_users(whole: Histories) -> np.ndarray:
    """Return the users who have a test item, a validation item and at least one more, int64 [n]."""
    return np.flatnonzero(whole.lengths >= _FEWEST)


def next_item_ranks(scores: Scores, before: Histories, users: np.ndarray, next_items: np.ndarray) -> np.ndarray:
    """Return the place of each user's next item, from 1, among all items but those rated before; int64 [n].

    An item of an equal score is before it, so a constant score earns nothing.

    Args:
        scores: of the model.
        before: what each user has rated before the next item.
        users: indices int [n].
        next_items: indices int [n], of items that are not in the user's history.
    """
    ranks = np.empty(len(users), np.int64)
    for start in range(0, len(users), _BLOCK):
        block = slice(start, start + _BLOCK)
        found = np.array(scores(users[block]), np.float64)
        own = found[np.arange(len(found)), next_items[block]]
        for row, user in zip(found, users[block], strict=True):
            row[before.user(user)] = -np.inf
        ranks[block] = (found >= own[:, None]).sum(axis=1)
    return ranks


def next_item_metrics(ranks: np.ndarray) -> dict[str, float]:
    """Return hit rate and NDCG at 10 of next items at these places, int [n].

    With one positive, NDCG is ``1 / log2(rank + 1)`` for a rank up to 10, else 0.
    """
    hits = ranks <= _K
    gains = np.where(hits, 1 / np.log2(ranks + 1.0), 0)
    return {"hit_rate_at_10": float(hits.mean()), "ndcg_at_10": float(gains.mean())}
