from collections.abc import Sequence
from math import log2

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import ndcg_score

from ml.evaluation.ranking import RANKING_METRICS, ranking_metrics_by_user

GAINS = [1 / log2(rank + 1) for rank in range(1, 40)]  # of a positive at rank 1, 2, ...


def by_user(rows: Sequence[tuple[int, int, int, float]]) -> pd.DataFrame:
    """Compute metrics of rows of user, item, label, score."""
    users, items, labels, scores = (np.array(column) for column in zip(*rows, strict=True))
    return ranking_metrics_by_user(users, items, labels, scores)


def of_ranking(labels: Sequence[int]) -> dict[str, float]:
    """Compute metrics of one user whose rows, from first to last rank, have these labels."""
    rows = [(7, 100 + place, label, -float(place)) for place, label in enumerate(labels)]
    metrics = by_user(rows)
    assert metrics.index.tolist() == [7]
    return metrics.loc[7].to_dict()


def random_rows(seed: int, users: int = 40, positives: float = 0.4) -> pd.DataFrame:
    """Return rows of many users in random order: 1 to 40 per user, distinct scores."""
    rng = np.random.default_rng(seed)
    user = np.repeat(np.arange(users) * 3, rng.integers(1, 41, users))
    rows = len(user)
    frame = pd.DataFrame(
        {
            "user": user,
            "item": rng.permutation(rows),
            "label": (rng.random(rows) < positives).astype(np.int8),
            "score": rng.permutation(rows) / rows,
        }
    )
    return frame.iloc[rng.permutation(rows)]


def of_frame(frame: pd.DataFrame) -> pd.DataFrame:
    return ranking_metrics_by_user(*(frame[name].to_numpy() for name in ("user", "item", "label", "score")))


def test_fewer_than_ten_rows_by_hand() -> None:
    dcg = 1 / log2(2) + 1 / log2(5)  # positives at ranks 1 and 4 of 5
    ideal = 1 / log2(2) + 1 / log2(3)
    assert of_ranking([1, 0, 0, 1, 0]) == pytest.approx(
        {
            "ndcg_at_10": dcg / ideal,
            "recall_at_10": 1,
            "hit_rate_at_10": 1,
            "ndcg_at_10_reference": dcg / ideal,
            "recall_at_10_reference": 1,
        }
    )


def test_positives_below_the_tenth_place_do_not_count() -> None:
    dcg = 1 / log2(11)  # rank 10; rank 11 is cut off
    ideal = 1 / log2(2) + 1 / log2(3)
    assert of_ranking([0] * 9 + [1, 1]) == pytest.approx(
        {
            "ndcg_at_10": dcg / ideal,
            "recall_at_10": 1 / 2,
            "hit_rate_at_10": 1,
            "ndcg_at_10_reference": dcg / ideal,
            "recall_at_10_reference": 1 / 2,
        }
    )


def test_user_without_a_positive_in_the_top_ten_has_zeros() -> None:
    assert of_ranking([0] * 10 + [1]) == dict.fromkeys(RANKING_METRICS, 0)


def test_reference_ideal_counts_all_positives() -> None:
    dcg = sum(GAINS[:10])  # ten of twelve positives fill the top ten
    assert of_ranking([1] * 12 + [0] * 3) == pytest.approx(
        {
            "ndcg_at_10": dcg / sum(GAINS[:10]),
            "recall_at_10": 10 / 12,
            "hit_rate_at_10": 1,
            "ndcg_at_10_reference": dcg / sum(GAINS[:12]),
            "recall_at_10_reference": 10 / 12,
        }
    )


def test_more_than_ten_positives_not_all_first() -> None:
    dcg = sum(GAINS[2:10])  # ranks 1 and 2 are negative, ranks 3 to 13 positive
    metrics = of_ranking([0, 0] + [1] * 11)
    assert metrics["ndcg_at_10"] == pytest.approx(dcg / sum(GAINS[:10]))
    assert metrics["ndcg_at_10_reference"] == pytest.approx(dcg / sum(GAINS[:11]))
    assert metrics["recall_at_10"] == pytest.approx(8 / 11)


def test_user_without_positives_is_left_out() -> None:
    metrics = by_user([(1, 5, 0, 0.9), (1, 6, 0, 0.1), (2, 5, 1, 0.3), (4, 5, 0, 0.2), (4, 6, 1, 0.1)])
    assert metrics.index.tolist() == [2, 4]
    assert metrics.index.name == "user_id"
    assert metrics["ndcg_at_10"].tolist() == pytest.approx([1, 1 / log2(3)])


def test_no_positives_at_all_gives_no_rows() -> None:
    metrics = by_user([(1, 5, 0, 0.9), (2, 6, 0, 0.1)])
    assert metrics.shape == (0, len(RANKING_METRICS))


def test_columns_are_the_metrics_in_order() -> None:
    metrics = by_user([(1, 5, 1, 0.9)])
    assert tuple(metrics.columns) == RANKING_METRICS
    assert set(metrics.dtypes) == {np.dtype("float64")}


@pytest.mark.parametrize("order", [slice(None), slice(None, None, -1)], ids=["rising rows", "falling rows"])
def test_equal_scores_rank_by_rising_item(order: slice) -> None:
    rows = [(1, 10, 0, 0.5), (1, 20, 1, 0.5), (1, 30, 0, 0.5), (1, 5, 0, 0.4)]
    assert by_user(rows[order])["ndcg_at_10"].tolist() == pytest.approx([1 / log2(3)])  # rank 2 of the three equals


def test_a_tie_at_the_cut_goes_to_the_lower_item() -> None:
    negatives = [(1, item, 0, 0.9) for item in range(9)]
    lower, higher = (1, 50, 1, 0.5), (1, 60, 1, 0.5)
    assert by_user([*negatives, (1, 55, 0, 0.5), lower])["hit_rate_at_10"].tolist() == [1]
    assert by_user([*negatives, (1, 55, 0, 0.5), higher])["hit_rate_at_10"].tolist() == [0]


def test_close_scores_are_not_equal() -> None:
    # As float32 the two scores would be one, and the lower item would win.
    assert by_user([(1, 1, 0, 0.5), (1, 2, 1, 0.5 + 1e-12)])["ndcg_at_10"].tolist() == [1]


def test_negative_scores_rank_like_others() -> None:
    assert by_user([(1, 1, 0, -7.5), (1, 2, 1, -2.0), (1, 3, 0, -3.0)])["ndcg_at_10"].tolist() == [1]


def test_order_of_the_rows_is_irrelevant() -> None:
    frame = random_rows(1)
    frame["score"] = frame["score"].round(1)  # with many ties
    shuffled = frame.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(of_frame(shuffled), of_frame(frame), check_exact=True)


def test_users_are_ranked_among_their_own_rows_only() -> None:
    frame = random_rows(2)
    together = of_frame(frame)
    alone = pd.concat([of_frame(rows) for _, rows in frame.groupby("user") if rows["label"].any()])
    pd.testing.assert_frame_equal(together, alone)


@pytest.mark.parametrize("positives", [0.1, 0.6])
@pytest.mark.parametrize("seed", [3, 4])
def test_standard_ndcg_is_that_of_scikit_learn(seed: int, positives: float) -> None:
    frame = random_rows(seed, positives=positives)
    frame = frame[frame.groupby("user")["item"].transform("size") > 1]  # scikit-learn wants two rows or more
    expected = {
        user: ndcg_score([rows["label"]], [rows["score"]], k=10)
        for user, rows in frame.groupby("user")
        if rows["label"].any()
    }
    assert len(expected) > 10
    assert of_frame(frame)["ndcg_at_10"].to_dict() == pytest.approx(expected)


def test_all_metrics_against_a_loop() -> None:
    frame = random_rows(5, positives=0.7)
    expected = {}
    for user, rows in frame.groupby("user"):
        labels = rows.sort_values("score", ascending=False)["label"].tolist()
        positives, top = sum(labels), labels[:10]
        dcg = sum(gain for gain, label in zip(GAINS, top, strict=False) if label)
        if positives:
            recall = sum(top) / positives
            standard, reference = dcg / sum(GAINS[: min(10, positives)]), dcg / sum(GAINS[:positives])
            expected[user] = [standard, recall, float(any(top)), reference, recall]
    assert max(frame.groupby("user")["label"].sum()) > 10
    wanted = pd.DataFrame.from_dict(expected, orient="index", columns=list(RANKING_METRICS)).rename_axis("user_id")
    pd.testing.assert_frame_equal(of_frame(frame), wanted)
