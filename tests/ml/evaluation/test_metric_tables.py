from typing import Any

import numpy as np
import pandas as pd
import pytest

from ml.evaluation import metric_tables
from ml.evaluation.calibration import expected_calibration_error
from ml.evaluation.catalogue import CATALOGUE_METRICS, CATALOGUE_USER_METRICS, catalogue_metrics
from ml.evaluation.classification import auc, log_loss
from ml.evaluation.comparison import METRICS, comparison_table
from ml.evaluation.metric_tables import (
    baseline_lists,
    baseline_scores,
    evaluate,
    evaluate_baseline_lists,
    evaluate_baselines,
    evaluate_lists,
)
from ml.evaluation.ranking import RANKING_METRICS, ranking_metrics_by_user
from ml.features.genres import genre_sets
from ml.models.baselines import factorization_scores, movie_mean_scores
from ml.models.rankers import CatalogueBaseline, catalogue_baselines, popularity

OF_PROBABILITIES = ["log_loss", "expected_calibration_error"]
BASELINES = ("random", "movie_mean", "matrix_factorization", "ceiling")
LIST_BASELINES = ("popularity", "movie_mean", "matrix_factorization", "implicit_als", "ease")
USERS, MOVIES = 30, 25
GENRES = genre_sets(["Drama", "Comedy|Drama", "", "War", "Comedy"] * 5)


@pytest.fixture
def interactions() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"user_id": np.repeat(np.arange(USERS), MOVIES), "movie_id": np.tile(np.arange(MOVIES), USERS)}
    )
    return frame.assign(label=(rng.random(len(frame)) < 0.5).astype(np.int8))


def as_dict(evaluation: pd.DataFrame) -> dict[str, float]:
    return dict(zip(evaluation["metric"], evaluation["value"], strict=True))


def random_scores(interactions: pd.DataFrame, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(len(interactions))


def test_long_form_has_one_row_a_metric(interactions: pd.DataFrame) -> None:
    evaluation = evaluate("mine", interactions, random_scores(interactions))
    assert {name: str(dtype) for name, dtype in evaluation.dtypes.items()} == {
        "model": "str",
        "metric": "str",
        "value": "float64",
    }
    assert set(evaluation["model"]) == {"mine"}
    assert tuple(evaluation["metric"]) == METRICS == (*RANKING_METRICS, "auc", "log_loss", "expected_calibration_error")


def test_values_are_means_over_users_and_over_rows(interactions: pd.DataFrame) -> None:
    scores = random_scores(interactions)
    users, items, labels = (interactions[name].to_numpy() for name in ("user_id", "movie_id", "label"))
    ranking = ranking_metrics_by_user(users, items, labels, scores)
    expected = {name: ranking[name].mean() for name in RANKING_METRICS}
    expected |= {"auc": auc(labels, scores), "log_loss": log_loss(labels, scores)}
    expected["expected_calibration_error"] = expected_calibration_error(labels, scores)
    assert as_dict(evaluate("mine", interactions, scores)) == pytest.approx(expected)


def test_user_without_positives_does_not_lower_the_means() -> None:
    frame = pd.DataFrame({"user_id": [1, 1, 2, 2], "movie_id": [5, 6, 5, 6], "label": [1, 0, 0, 0]})
    values = as_dict(evaluate("mine", frame, np.array([0.9, 0.1, 0.8, 0.2])))
    assert [values[name] for name in RANKING_METRICS] == [1] * 5


def test_perfect_order_has_full_marks_by_the_standard_definition_only(interactions: pd.DataFrame) -> None:
    assert interactions.groupby("user_id")["label"].sum().max() > 10
    values = as_dict(evaluate("perfect", interactions, interactions["label"].to_numpy(np.float64)))
    assert values["ndcg_at_10"] == pytest.approx(1)
    assert values["hit_rate_at_10"] == 1
    assert values["auc"] == 1
    assert values["log_loss"] == pytest.approx(0, abs=1e-9)
    assert values["expected_calibration_error"] == 0
    assert 0.5 < values["ndcg_at_10_reference"] < 1
    assert values["recall_at_10"] == values["recall_at_10_reference"] < 1


def test_scores_that_are_no_probabilities_have_no_metrics_of_those(interactions: pd.DataFrame) -> None:
    scores = random_scores(interactions)
    values = as_dict(evaluate("stars", interactions, scores * 9 - 3, are_probabilities=False))
    expected = as_dict(evaluate("same order", interactions, scores))
    for name in OF_PROBABILITIES:
        del expected[name]
    assert values == pytest.approx(expected)


def test_comparison_has_one_row_a_model_and_one_column_a_metric(interactions: pd.DataFrame) -> None:
    first = evaluate("zebra", interactions, random_scores(interactions, 1) * 7, are_probabilities=False)
    second = evaluate("aardvark", interactions, random_scores(interactions, 2))
    table = comparison_table(iter([first, second]))
    assert table.index.tolist() == ["zebra", "aardvark"]
    assert tuple(table.columns) == METRICS
    assert table.loc["aardvark"].to_dict() == as_dict(second)
    assert table.loc["zebra"].drop(OF_PROBABILITIES).to_dict() == as_dict(first)
    assert table.isna().to_numpy().sum() == 2
    assert table.loc["zebra", OF_PROBABILITIES].isna().all()


def test_comparison_without_probabilities_has_no_columns_of_their_metrics(interactions: pd.DataFrame) -> None:
    only = evaluate("stars", interactions, random_scores(interactions), are_probabilities=False)
    assert tuple(comparison_table([only]).columns) == METRICS[:-2]


@pytest.fixture
def train(interactions: pd.DataFrame) -> pd.DataFrame:
    return interactions.sample(frac=0.6, random_state=0).assign(rating=lambda rows: 2 + 3 * rows["label"])


@pytest.mark.parametrize("label", [0, 1])
def test_test_rows_of_one_label_leave_gaps(interactions: pd.DataFrame, train: pd.DataFrame, label: int) -> None:
    rows = interactions.assign(label=np.int8(label))
    evaluation = evaluate("mine", rows, random_scores(rows))
    values = as_dict(evaluation)
    assert np.isnan(values["auc"])
    assert values["log_loss"] > 0
    assert values["expected_calibration_error"] > 0
    assert values["ndcg_at_10"] == 1 if label else np.isnan(values["ndcg_at_10"])
    baselines = evaluate_baselines(rows, baseline_scores(train, rows))
    table = comparison_table([evaluation, baselines])
    assert tuple(table.columns) == METRICS
    assert list(table.index) == ["mine", *BASELINES]
    assert table["auc"].isna().all()


def test_baseline_scores_are_those_of_the_baselines(train: pd.DataFrame, interactions: pd.DataFrame) -> None:
    test = interactions.drop(train.index)
    scores = baseline_scores(train, test, seed=7)
    assert {name: str(dtype) for name, dtype in scores.dtypes.items()} == dict.fromkeys(BASELINES, "float64")
    assert scores.index.tolist() == test.index.tolist()
    assert scores["random"].tolist() == np.random.default_rng(7).random(len(test)).tolist()
    assert scores["movie_mean"].tolist() == movie_mean_scores(train, test).tolist()
    assert scores["matrix_factorization"].tolist() == pytest.approx(factorization_scores(train, test, 7).tolist())
    assert scores["ceiling"].tolist() == test["label"].tolist()


def test_baselines_are_evaluated_by_their_scores(train: pd.DataFrame, interactions: pd.DataFrame) -> None:
    test = interactions.drop(train.index)
    scores = baseline_scores(train, test)
    evaluation = evaluate_baselines(test, scores)
    assert evaluation["model"].unique().tolist() == list(BASELINES)
    for name, rows in evaluation.groupby("model"):
        probabilities = name in ("movie_mean", "ceiling")
        assert tuple(rows["metric"]) == (METRICS if probabilities else METRICS[:-2])
        alone = evaluate(name, test, scores[name].to_numpy(), are_probabilities=probabilities)
        pd.testing.assert_frame_equal(rows.reset_index(drop=True), alone)
    ceiling = as_dict(evaluation[evaluation["model"] == "ceiling"])
    assert (ceiling["auc"], ceiling["expected_calibration_error"]) == (1, 0)


def test_lists_are_evaluated_by_hand() -> None:
    train = pd.DataFrame({"user_id": [0, 1, 1], "movie_id": [0, 0, 1], "label": [1, 0, 1]})
    test = pd.DataFrame({"user_id": [0, 0, 1], "movie_id": [1, 3, 2], "label": [1, 0, 1]})
    lists = pd.DataFrame({"user_id": [0, 0, 1], "rank": [1, 2, 1], "movie_id": [2, 1, 3]})
    evaluation = evaluate_lists("mine", train, test, lists, genre_sets(["", "Drama", "Drama|War", ""]))
    assert evaluation["model"].tolist() == ["mine"] * 8
    assert as_dict(evaluation) == pytest.approx(
        {
            "catalogue_ndcg_at_10": 1 / np.log2(3) / 2,
            "catalogue_recall_at_10": 1 / 2,
            "catalogue_hit_rate_at_10": 1 / 2,
            "catalogue_coverage_at_10": 3 / 4,
            "catalogue_mean_popularity_at_10": (0 + 1 + 0) / 3,
            "catalogue_list_overlap_at_10": 0,
            "catalogue_list_similarity_at_10": 1 / 2,
            "catalogue_unbiased_recall_at_10": 1 / 2,
        }
    )


def seen(train: pd.DataFrame) -> np.ndarray:
    """Return which items each user has seen, bool [users, items]."""
    cells = np.zeros((USERS, MOVIES), bool)
    cells[train["user_id"], train["movie_id"]] = True
    return cells


@pytest.fixture
def lists(train: pd.DataFrame) -> pd.DataFrame:
    return baseline_lists(train, USERS, MOVIES, seed=7)


def test_lists_of_baselines_are_their_best_unseen_movies(train: pd.DataFrame, lists: pd.DataFrame) -> None:
    baselines = catalogue_baselines(train, USERS, MOVIES, seed=7)
    expected = []
    for name in LIST_BASELINES:
        scores = baselines[name](np.arange(USERS))
        for user, own in enumerate(seen(train)):
            unseen = sorted(np.flatnonzero(~own), key=lambda movie: (-scores[user, movie], movie))
            expected += [(name, user, rank, movie) for rank, movie in enumerate(unseen[:10], start=1)]
    assert list(lists.itertuples(index=False, name=None)) == expected
    assert {name: str(dtype) for name, dtype in lists.dtypes.items()} == {
        "model": "str",
        "user_id": "int32",
        "rank": "int16",
        "movie_id": "int32",
    }
    assert lists.index.equals(pd.RangeIndex(len(lists)))


@pytest.mark.parametrize("seed", [3, None])
def test_the_seed_of_the_lists_is_the_baselines(
    monkeypatch: pytest.MonkeyPatch, train: pd.DataFrame, seed: int | None
) -> None:
    seeds = []

    def fitted(*data: Any) -> dict[str, CatalogueBaseline]:
        seeds.append(data[-1])
        return {"one": popularity(*data[:-1])}

    monkeypatch.setattr(metric_tables, "catalogue_baselines", fitted)
    lists = baseline_lists(train, USERS, MOVIES, *([] if seed is None else [seed]))
    assert lists["model"].unique().tolist() == ["one"]
    assert seeds == [42 if seed is None else seed]


def test_lists_of_baselines_are_evaluated_one_by_one(
    train: pd.DataFrame, interactions: pd.DataFrame, lists: pd.DataFrame
) -> None:
    test = interactions.drop(train.index)
    evaluation = evaluate_baseline_lists(train, test, lists, GENRES)
    assert evaluation["model"].unique().tolist() == list(LIST_BASELINES)
    assert evaluation.index.equals(pd.RangeIndex(len(LIST_BASELINES) * len(CATALOGUE_METRICS)))
    for name, rows in evaluation.groupby("model"):
        own = lists[lists["model"] == name]
        assert tuple(rows["metric"]) == CATALOGUE_METRICS
        assert as_dict(rows) == catalogue_metrics(train, test, own, GENRES)
        pd.testing.assert_frame_equal(rows.reset_index(drop=True), evaluate_lists(str(name), train, test, own, GENRES))


@pytest.mark.parametrize("catalogue_first", [True, False])
def test_comparison_has_the_catalogue_s_metrics_after_the_others(
    train: pd.DataFrame, interactions: pd.DataFrame, lists: pd.DataFrame, catalogue_first: bool
) -> None:
    test = interactions.drop(train.index)
    popular = lists[lists["model"] == "popularity"]
    scored = evaluate("mine", test, random_scores(test))
    listed = evaluate_lists("mine", train, test, popular.iloc[::-1], GENRES).iloc[::-1]
    baselines = evaluate_baseline_lists(train, test, lists, GENRES)
    parts = [listed, baselines, scored] if catalogue_first else [scored, listed, baselines]
    table = comparison_table(parts)
    assert tuple(table.columns) == (*METRICS, *CATALOGUE_METRICS)
    assert tuple(CATALOGUE_METRICS[:3]) == CATALOGUE_USER_METRICS
    assert table.index.tolist() == ["mine", *LIST_BASELINES]
    assert table.loc["mine"].to_dict() == as_dict(scored) | as_dict(listed)
    assert table.loc["popularity", list(CATALOGUE_METRICS)].to_dict() == as_dict(listed)
    assert table.loc[list(LIST_BASELINES), list(METRICS)].isna().all(axis=None)


def test_comparison_of_lists_alone_has_their_metrics_alone(
    train: pd.DataFrame, interactions: pd.DataFrame, lists: pd.DataFrame
) -> None:
    table = comparison_table([evaluate_baseline_lists(train, interactions.drop(train.index), lists, GENRES)])
    assert tuple(table.columns) == CATALOGUE_METRICS
    assert table.index.tolist() == list(LIST_BASELINES)
