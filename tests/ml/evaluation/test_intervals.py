from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from ml.evaluation import intervals
from ml.evaluation.intervals import compare_models
from ml.evaluation.ranking import RANKING_METRICS, ranking_metrics_by_user

USERS = 2000


@pytest.fixture(scope="module")
def interactions() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"user_id": np.repeat(np.arange(USERS), 15), "movie_id": np.tile(np.arange(15), USERS)})
    return frame.assign(label=(rng.random(len(frame)) < 0.3).astype(np.int8))


@pytest.fixture(scope="module")
def scores(interactions: pd.DataFrame) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    labels = interactions["label"].to_numpy()
    return {name: weight * labels + rng.random(len(labels)) for name, weight in [("c", 0.2), ("a", 0.4), ("b", 0.0)]}


@pytest.fixture(scope="module")
def table(interactions: pd.DataFrame, scores: Mapping[str, np.ndarray]) -> pd.DataFrame:
    return compare_models(interactions, scores)


def user_metrics(interactions: pd.DataFrame, scores: np.ndarray) -> pd.DataFrame:
    columns = (interactions[name].to_numpy() for name in ("user_id", "movie_id", "label"))
    return ranking_metrics_by_user(*columns, scores)


def test_rows_are_pairs_in_the_models_order_by_metric(table: pd.DataFrame) -> None:
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == {
        "model_a": "str",
        "model_b": "str",
        "metric": "str",
        "difference": "float64",
        "low": "float64",
        "high": "float64",
    }
    pairs = [("c", "a"), ("c", "b"), ("a", "b")]
    expected = [(*pair, metric) for pair in pairs for metric in RANKING_METRICS]
    assert list(table[["model_a", "model_b", "metric"]].itertuples(index=False, name=None)) == expected


def test_difference_is_that_of_the_means(
    table: pd.DataFrame, interactions: pd.DataFrame, scores: Mapping[str, np.ndarray]
) -> None:
    means = {name: user_metrics(interactions, values).mean() for name, values in scores.items()}
    expected = [means[row.model_a][row.metric] - means[row.model_b][row.metric] for row in table.itertuples()]
    assert table["difference"].tolist() == pytest.approx(expected, abs=1e-12)
    assert (table["low"] < table["difference"]).all()
    assert (table["difference"] < table["high"]).all()


def test_width_is_that_of_the_normal_approximation(
    table: pd.DataFrame, interactions: pd.DataFrame, scores: Mapping[str, np.ndarray]
) -> None:
    users = {name: user_metrics(interactions, values) for name, values in scores.items()}
    for row in table.itertuples():
        difference = users[row.model_a][row.metric] - users[row.model_b][row.metric]
        width = 2 * 1.96 * difference.std() / np.sqrt(len(difference))
        assert row.high - row.low == pytest.approx(width, rel=0.1), row


def test_pairing_narrows_the_interval_of_similar_models(interactions: pd.DataFrame) -> None:
    rng = np.random.default_rng(2)
    first = rng.random(len(interactions))
    found = compare_models(interactions, {"first": first, "second": first + 0.01 * rng.random(len(first))})
    ndcg = user_metrics(interactions, first)["ndcg_at_10"]
    unpaired = 2 * 1.96 * np.sqrt(2 * ndcg.var() / len(ndcg))
    assert found.loc[0, "high"] - found.loc[0, "low"] < unpaired / 3


def test_equal_models_differ_by_nothing(interactions: pd.DataFrame, scores: Mapping[str, np.ndarray]) -> None:
    found = compare_models(interactions, {"one": scores["a"], "same": scores["a"].copy()}, resamples=50)
    assert (found[["difference", "low", "high"]] == 0).all(axis=None)


def test_model_better_for_every_user_is_better_for_sure() -> None:
    frame = pd.DataFrame({"user_id": np.repeat(np.arange(30), 2), "movie_id": [0, 1] * 30, "label": [0, 1] * 30})
    good, bad = frame["label"].to_numpy(np.float64), 1.0 - frame["label"].to_numpy()
    ndcg = compare_models(frame, {"good": good, "bad": bad}).set_index("metric").loc["ndcg_at_10"]
    expected = 1 - 1 / np.log2(3)  # of every user, so of every resample
    assert ndcg[["difference", "low", "high"]].tolist() == pytest.approx([expected] * 3)


def test_share_of_users_by_the_binomial_distribution() -> None:
    # For 30 of 100 users the hit rate differs by 1: resampled differences are binomial(100, 0.3) / 100, whose
    # 2.5 % and 97.5 % points are 0.21 and 0.39.
    users, rows = 100, 12
    frame = pd.DataFrame({"user_id": np.repeat(np.arange(users), rows), "movie_id": np.tile(np.arange(rows), users)})
    frame["label"] = (frame["movie_id"] == 11).astype(np.int8)
    good = frame["label"].to_numpy(np.float64)
    bad = np.where(frame["user_id"] < 30, -good, good)
    hits = compare_models(frame, {"good": good, "bad": bad}).set_index("metric").loc["hit_rate_at_10"]
    assert hits["difference"] == pytest.approx(0.3)
    assert [hits["low"], hits["high"]] == pytest.approx([0.21, 0.39], abs=0.011)


def test_swapped_models_have_the_mirrored_interval(
    interactions: pd.DataFrame, scores: Mapping[str, np.ndarray]
) -> None:
    one = compare_models(interactions, {"a": scores["a"], "b": scores["b"]}, resamples=200)
    other = compare_models(interactions, {"b": scores["b"], "a": scores["a"]}, resamples=200)
    assert other["model_a"].unique().tolist() == ["b"]
    np.testing.assert_allclose(other["difference"], -one["difference"], atol=1e-12)
    np.testing.assert_allclose(other["low"], -one["high"], atol=1e-12)
    np.testing.assert_allclose(other["high"], -one["low"], atol=1e-12)


def test_another_model_changes_no_interval_of_the_others(
    table: pd.DataFrame, interactions: pd.DataFrame, scores: Mapping[str, np.ndarray]
) -> None:
    alone = compare_models(interactions, {"c": scores["c"], "b": scores["b"]})
    among = table[(table["model_a"] == "c") & (table["model_b"] == "b")].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, among, rtol=0, atol=1e-12)


def test_the_seed_decides(interactions: pd.DataFrame, scores: Mapping[str, np.ndarray]) -> None:
    first, again, other = (compare_models(interactions, scores, 100, seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again, check_exact=True)
    assert (first["difference"] == other["difference"]).all()
    assert (first["low"] != other["low"]).any()


def test_chunks_change_nothing(
    monkeypatch: pytest.MonkeyPatch, interactions: pd.DataFrame, scores: Mapping[str, np.ndarray]
) -> None:
    whole = compare_models(interactions, scores, resamples=20)
    for cells in (1, 7 * USERS):  # one resample at a time; chunks of seven and a rest
        monkeypatch.setattr(intervals, "_CELLS", cells)
        pd.testing.assert_frame_equal(compare_models(interactions, scores, resamples=20), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("names", [[], ["only"]])
def test_fewer_than_two_models_are_refused(interactions: pd.DataFrame, names: list[str]) -> None:
    with pytest.raises(ValueError, match="two models or more"):
        compare_models(interactions, {name: np.zeros(len(interactions)) for name in names})


def test_scores_of_other_rows_are_refused(interactions: pd.DataFrame) -> None:
    right = np.zeros(len(interactions))
    with pytest.raises(ValueError, match=r"^short has 29999 scores for 30000 test rows$"):
        compare_models(interactions, {"right": right, "short": right[1:]})


def test_test_rows_without_a_positive_are_refused(interactions: pd.DataFrame) -> None:
    scores = np.zeros(len(interactions))
    with pytest.raises(ValueError, match="no user has a positive"):
        compare_models(interactions.assign(label=0), {"a": scores, "b": scores})
