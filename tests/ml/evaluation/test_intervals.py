from collections.abc import Mapping

import numpy as np
import pandas as pd
import pytest

from ml.evaluation import intervals
from ml.evaluation.catalogue import CATALOGUE_USER_METRICS, catalogue_metrics_by_user
from ml.evaluation.intervals import compare_by_user, compare_lists, compare_models
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
    with pytest.raises(ValueError, match="at least two models"):
        compare_models(interactions, {name: np.zeros(len(interactions)) for name in names})


def test_scores_of_other_rows_are_refused(interactions: pd.DataFrame) -> None:
    right = np.zeros(len(interactions))
    with pytest.raises(ValueError, match=r"^short has 29999 scores for 30000 test rows$"):
        compare_models(interactions, {"right": right, "short": right[1:]})


def test_without_a_positive_nothing_is_known(interactions: pd.DataFrame) -> None:
    scores = np.zeros(len(interactions))
    table = compare_models(interactions.assign(label=0), {"a": scores, "b": scores})
    assert table["metric"].tolist() == list(RANKING_METRICS)
    assert table[["difference", "low", "high"]].isna().to_numpy().all()


def test_models_are_compared_by_their_users_ranking_metrics(
    table: pd.DataFrame, interactions: pd.DataFrame, scores: Mapping[str, np.ndarray]
) -> None:
    by_user = {name: user_metrics(interactions, values) for name, values in scores.items()}
    pd.testing.assert_frame_equal(compare_by_user(by_user), table, check_exact=True)


def metrics_of(values: Mapping[str, list[float]], users: list[int]) -> pd.DataFrame:
    return pd.DataFrame(values, index=pd.Index(users, name="user_id"), dtype=np.float64)


def test_any_metrics_can_be_compared_by_hand() -> None:
    by_user = {
        "b": metrics_of({"x": [1, 0, 4], "y": [2, 2, 2]}, [7, 3, 5]),
        "a": metrics_of({"x": [0, 3, 1], "y": [1, 1, 1]}, [7, 3, 5]),
    }
    found = compare_by_user(by_user, resamples=4000, seed=1).set_index("metric")
    assert found.index.tolist() == ["x", "y"]
    assert found[["model_a", "model_b"]].to_numpy().tolist() == [["b", "a"]] * 2
    assert found["difference"].tolist() == pytest.approx([(1 - 3 + 3) / 3, 1])
    # Of 27 equally likely draws of 1, -3, 3 one has the mean -3 and one 3, more than 2.5 % each.
    assert found.loc["x", ["low", "high"]].tolist() == [-3, 3]
    assert found.loc["y", ["low", "high"]].tolist() == [1, 1]


def test_resamples_are_those_of_the_generator() -> None:
    values = np.random.default_rng(3).random((6, 1))
    by_user = {"a": pd.DataFrame(values, columns=["x"]), "b": pd.DataFrame(np.zeros((6, 1)), columns=["x"])}
    counts = np.random.default_rng(9).multinomial(6, np.full(6, 1 / 6), size=300)
    means = [sum(count * value for count, value in zip(own, values[:, 0], strict=True)) / 6 for own in counts]
    found = compare_by_user(by_user, resamples=300, seed=9)
    assert found[["low", "high"]].iloc[0].tolist() == pytest.approx(np.percentile(means, [2.5, 97.5]))


@pytest.mark.parametrize("names", [[], ["only"]])
def test_fewer_than_two_models_have_no_metrics_to_compare(names: list[str]) -> None:
    with pytest.raises(ValueError, match="at least two models"):
        compare_by_user({name: metrics_of({"x": [1]}, [1]) for name in names})


@pytest.mark.parametrize(
    "other",
    [
        metrics_of({"x": [1, 2]}, [3, 4]),
        metrics_of({"x": [1, 2, 3]}, [1, 2, 3]),
        metrics_of({"x": [1, 2]}, [2, 1]),
        metrics_of({"y": [1, 2]}, [1, 2]),
        metrics_of({"x": [1, 2], "y": [1, 2]}, [1, 2]),
    ],
    ids=["other users", "more users", "another order", "another metric", "more metrics"],
)
def test_metrics_of_other_users_or_kinds_are_refused(other: pd.DataFrame) -> None:
    first = metrics_of({"x": [1, 2]}, [1, 2])
    with pytest.raises(ValueError, match=r"^odd has different users or metrics than first$"):
        compare_by_user({"first": first, "second": first, "odd": other})


def test_metrics_of_no_user_are_not_known() -> None:
    table = compare_by_user({name: metrics_of({"x": []}, []) for name in ("a", "b")})
    assert len(table) == 1
    assert table[["difference", "low", "high"]].isna().to_numpy().all()


@pytest.fixture(scope="module")
def lists() -> dict[str, pd.DataFrame]:
    """Return ten items for nine in ten users, seen or not."""
    rng = np.random.default_rng(4)
    users = np.flatnonzero(np.arange(USERS) % 10)
    found = {}
    for name in ("c", "a", "b"):
        movies = rng.permuted(np.tile(np.arange(15), (len(users), 1)), axis=1)[:, :10]
        columns = {"user_id": np.repeat(users, 10), "rank": np.tile(np.arange(1, 11), len(users))}
        found[name] = pd.DataFrame({**columns, "movie_id": movies.ravel()})
    return found


@pytest.fixture(scope="module")
def list_table(interactions: pd.DataFrame, lists: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    return compare_lists(interactions, lists)


def test_lists_are_compared_in_the_models_order_by_metric(list_table: pd.DataFrame, table: pd.DataFrame) -> None:
    pairs = [("c", "a"), ("c", "b"), ("a", "b")]
    expected = [(*pair, metric) for pair in pairs for metric in CATALOGUE_USER_METRICS]
    assert list(list_table[["model_a", "model_b", "metric"]].itertuples(index=False, name=None)) == expected
    assert list_table.dtypes.to_dict() == table.dtypes.to_dict()


def test_differences_of_lists_are_those_of_their_users_metrics(
    list_table: pd.DataFrame, interactions: pd.DataFrame, lists: Mapping[str, pd.DataFrame]
) -> None:
    users = {name: catalogue_metrics_by_user(interactions, own) for name, own in lists.items()}
    assert len(users["a"]) > USERS * 0.95  # those without a list too
    for row in list_table.itertuples():
        difference = users[row.model_a][row.metric] - users[row.model_b][row.metric]
        width = 2 * 1.96 * difference.std() / np.sqrt(len(difference))
        assert row.difference == pytest.approx(difference.mean(), abs=1e-12), row
        assert row.high - row.low == pytest.approx(width, rel=0.1), row


def test_lists_of_some_users_by_the_binomial_distribution() -> None:
    # As above: 30 of 100 users lose their only positive.
    users = np.arange(100)
    test = pd.DataFrame({"user_id": users, "movie_id": 2, "label": 1})
    good = pd.DataFrame({"user_id": users, "rank": 1, "movie_id": 2})
    bad = good.assign(movie_id=np.where(users < 30, 3, 2))
    found = compare_lists(test, {"good": good, "bad": bad}).set_index("metric")
    for metric in CATALOGUE_USER_METRICS:
        assert found.loc[metric, "difference"] == pytest.approx(0.3)
        assert found.loc[metric, ["low", "high"]].tolist() == pytest.approx([0.21, 0.39], abs=0.011)


def test_the_seed_and_the_resamples_of_lists_are_passed_on(
    interactions: pd.DataFrame, lists: Mapping[str, pd.DataFrame]
) -> None:
    by_user = {name: catalogue_metrics_by_user(interactions, own) for name, own in lists.items()}
    found = compare_lists(interactions, lists, resamples=50, seed=8)
    pd.testing.assert_frame_equal(found, compare_by_user(by_user, 50, 8), check_exact=True)


def test_lists_of_one_model_are_refused(interactions: pd.DataFrame, lists: Mapping[str, pd.DataFrame]) -> None:
    with pytest.raises(ValueError, match=r"expected at least two models, got \['a'\]"):
        compare_lists(interactions, {"a": lists["a"]})
