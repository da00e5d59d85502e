import numpy as np
import pandas as pd
import pytest

from ml.evaluation.calibration import expected_calibration_error
from ml.evaluation.classification import auc, log_loss
from ml.evaluation.ranking import RANKING_METRICS, ranking_metrics_by_user
from ml.evaluation.report import METRICS, baseline_scores, comparison_table, evaluate, evaluate_baselines
from ml.models.baselines import factorization_scores, movie_mean_scores

OF_PROBABILITIES = ["log_loss", "expected_calibration_error"]
BASELINES = ("random", "movie_mean", "matrix_factorization", "ceiling")


@pytest.fixture
def interactions() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"user_id": np.repeat(np.arange(30), 25), "movie_id": np.tile(np.arange(25), 30)})
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
