import numpy as np
import pytest

from ml.evaluation.next_item import evaluated_users, next_item_metrics, next_item_ranks
from ml.features.histories import Histories

WHOLE = Histories(np.array([0, 3, 5, 9]), np.array([4, 0, 2, 1, 3, 0, 1, 2, 3], np.int32))
SCORES = np.array([[0.1, 0.5, 0.3, 0.2, 0.9], [0.0] * 5, [0.4, 0.9, 0.8, 0.3, 0.3]])


def test_users_need_three_ratings() -> None:
    assert evaluated_users(WHOLE).tolist() == [0, 2]


def test_ranks_by_hand() -> None:
    before, users = WHOLE.without_last(1), np.array([0, 2])
    ranks = next_item_ranks(lambda chosen: SCORES[chosen], before, users, WHOLE.last(users))
    # User 0 has rated 4 and 0: of 1, 2, 3 with .5, .3, .2, item 2 is second. User 2 has rated 0, 1, 2: item 3 is equal
    # to item 4, and comes after it.
    assert ranks.tolist() == [2, 2]
    assert SCORES[0, 4] == 0.9  # scores are not overwritten


def test_metrics_by_hand() -> None:
    found = next_item_metrics(np.array([1, 3, 10, 11]))
    assert found["hit_rate_at_10"] == 0.75
    assert found["ndcg_at_10"] == pytest.approx((1 + 1 / 2 + 1 / np.log2(11)) / 4)


def test_a_constant_score_earns_nothing() -> None:
    whole = Histories(np.array([0, 3]), np.array([0, 1, 2], np.int32))
    ranks = next_item_ranks(lambda chosen: np.zeros((len(chosen), 20)), whole.without_last(1), np.array([0]), [2])
    assert ranks.tolist() == [18]
