from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from ml.evaluation.activity import GROUPS, activity_groups, metrics_by_activity
from ml.evaluation.classification import auc
from ml.evaluation.metric_tables import evaluate
from ml.evaluation.ranking import RANKING_METRICS

METRICS = (*RANKING_METRICS, "auc")


def training(ratings: Mapping[int, int]) -> pd.DataFrame:
    """Return training rows of users with these numbers of ratings."""
    return pd.DataFrame({"user_id": np.repeat(list(ratings), list(ratings.values()))})


def groups_of(ratings: Mapping[int, int]) -> list[str]:
    return activity_groups(training(ratings), np.array(list(ratings))).tolist()


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([5, 6, 7], "light medium heavy"),
        ([30, 10, 20, 50, 60, 40], "medium light light heavy heavy medium"),
        ([0, 1, 4, 5, 6, 7], "cold cold cold light medium heavy"),  # the cold count for nothing
        ([5, 6, 7, 8], "light light medium heavy"),
        ([5, 6], "light medium"),
        ([9], "light"),
        ([9, 9, 9, 9], "light light light light"),
        ([5, 5, 5, 6], "light light light heavy"),  # three quarters have fewer than six
        ([5, 5, 6, 6, 6, 6], "light light medium medium medium medium"),  # a third has
        ([5, 6, 6, 6, 6, 6], "light light light light light light"),  # only a sixth has
        ([5, 6, 6, 6, 6, 7], "light light light light light heavy"),
        ([4, 4, 0], "cold cold cold"),
    ],
)
def test_groups_by_hand(counts: list[int], expected: str) -> None:
    assert groups_of(dict(enumerate(counts, start=10))) == expected.split()


def test_groups_are_indexed_by_the_users_as_given() -> None:
    groups = activity_groups(training({3: 5, 1: 9, 2: 7, 8: 2}), np.array([2, 99, 1, 8]))
    assert groups.to_dict() == {2: "medium", 99: "cold", 1: "heavy", 8: "cold"}
    assert groups.index.tolist() == [2, 99, 1, 8]
    assert (groups.name, groups.index.name, str(groups.dtype)) == ("group", "user_id", "str")


def test_group_of_a_user_does_not_depend_on_who_else_is_asked_for() -> None:
    train = training({user: 5 + user for user in range(30)})
    everybody = activity_groups(train, np.arange(30))
    assert everybody.value_counts().to_dict() == {"light": 10, "medium": 10, "heavy": 10}
    assert activity_groups(train, np.array([29, 28])).tolist() == ["heavy", "heavy"]


def test_no_count_is_split_and_groups_rise_with_the_count() -> None:
    counts = np.random.default_rng(0).integers(0, 25, 500)
    frame = pd.DataFrame({"count": counts, "group": groups_of(dict(enumerate(counts.tolist())))})
    assert frame.groupby("count")["group"].nunique().max() == 1
    bounds = frame.groupby("group")["count"].agg(["min", "max"]).loc[list(GROUPS)]
    assert bounds.loc["cold"].tolist() == [0, 4]
    assert (bounds["min"].to_numpy()[1:] == bounds["max"].to_numpy()[:-1] + 1).all()
    sizes = frame["group"].value_counts()[["light", "medium", "heavy"]]
    assert sizes.min() > 0.25 * sizes.sum()


def test_no_training_rows_make_everybody_cold() -> None:
    assert activity_groups(training({1: 0}), np.array([1, 2])).tolist() == ["cold", "cold"]


@pytest.fixture
def train() -> pd.DataFrame:
    return training({1: 2, 2: 5, 3: 6, 4: 7, 5: 5, 6: 6, 7: 7})


@pytest.fixture
def measured_rows() -> pd.DataFrame:
    rows = [(user, movie, int(movie % 3 == user % 2)) for user in range(1, 8) for movie in range(15)]
    return pd.DataFrame(rows, columns=["user_id", "movie_id", "label"])


def values_of(table: pd.DataFrame, group: str) -> dict[str, float]:
    rows = table[table["group"] == group]
    return dict(zip(rows["metric"], rows["value"], strict=True))


def test_each_group_is_evaluated_alone(train: pd.DataFrame, measured_rows: pd.DataFrame) -> None:
    scores = np.random.default_rng(0).random(len(measured_rows))
    table = metrics_by_activity("mine", train, measured_rows, scores)
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == {
        "model": "str",
        "group": "str",
        "users": "int64",
        "metric": "str",
        "value": "float64",
    }
    assert list(zip(table["group"], table["metric"], strict=True)) == [(g, m) for g in GROUPS for m in METRICS]
    assert set(table["model"]) == {"mine"}
    for group, users in {"cold": [1], "light": [2, 5], "medium": [3, 6], "heavy": [4, 7]}.items():
        own = measured_rows["user_id"].isin(users).to_numpy()
        alone = evaluate("mine", measured_rows[own], scores[own], are_probabilities=False)
        assert values_of(table, group) == pytest.approx(dict(zip(alone["metric"], alone["value"], strict=True)))
        assert set(table.loc[table["group"] == group, "users"]) == {len(users)}


def test_order_of_the_rows_is_irrelevant(train: pd.DataFrame, measured_rows: pd.DataFrame) -> None:
    scores = np.random.default_rng(0).random(len(measured_rows))
    order = np.random.default_rng(1).permutation(len(measured_rows))
    shuffled = metrics_by_activity("mine", train, measured_rows.iloc[order], scores[order])
    pd.testing.assert_frame_equal(shuffled, metrics_by_activity("mine", train, measured_rows, scores))


def test_group_without_users_has_no_values(train: pd.DataFrame, measured_rows: pd.DataFrame) -> None:
    warm = measured_rows[measured_rows["user_id"] != 1]
    table = metrics_by_activity("mine", train, warm, np.random.default_rng(0).random(len(warm)))
    cold = table[table["group"] == "cold"]
    assert tuple(cold["metric"]) == METRICS
    assert cold["users"].tolist() == [0] * len(METRICS)
    assert cold["value"].isna().all()
    assert table.loc[table["group"] != "cold", "value"].notna().all()


def test_user_without_positives_counts_for_auc_only(train: pd.DataFrame, measured_rows: pd.DataFrame) -> None:
    rows = measured_rows.assign(label=measured_rows["label"].where(measured_rows["user_id"] != 5, 0))
    scores = np.random.default_rng(0).random(len(rows))
    table = metrics_by_activity("mine", train, rows, scores)
    light = table[table["group"] == "light"].set_index("metric")
    assert light["users"].to_dict() == {**dict.fromkeys(RANKING_METRICS, 1), "auc": 2}
    only = (rows["user_id"] == 2).to_numpy()
    alone = evaluate("mine", rows[only], scores[only], are_probabilities=False).set_index("metric")["value"]
    assert light.loc[list(RANKING_METRICS), "value"].to_dict() == pytest.approx(alone[list(RANKING_METRICS)].to_dict())
    both = rows["user_id"].isin([2, 5]).to_numpy()
    assert light.loc["auc", "value"] == pytest.approx(auc(rows["label"].to_numpy()[both], scores[both]))


def test_group_of_one_class_has_no_auc(train: pd.DataFrame, measured_rows: pd.DataFrame) -> None:
    positive = measured_rows.assign(label=measured_rows["label"].where(measured_rows["user_id"] != 1, 1))
    negative = measured_rows.assign(label=measured_rows["label"].where(measured_rows["user_id"] != 1, 0))
    scores = np.random.default_rng(0).random(len(measured_rows))
    all_liked = values_of(metrics_by_activity("mine", train, positive, scores), "cold")
    none_liked = values_of(metrics_by_activity("mine", train, negative, scores), "cold")
    assert all_liked["ndcg_at_10"] == pytest.approx(1)
    assert np.isnan(all_liked["auc"])
    assert all(np.isnan(value) for value in none_liked.values())
