import numpy as np
import pandas as pd
import pytest

from ml.evaluation.classification import auc, log_loss
from ml.evaluation.ranking import RANKING_METRICS, ranking_metrics_by_user
from ml.evaluation.report import METRICS, comparison_table, evaluate


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
    assert tuple(evaluation["metric"]) == METRICS == (*RANKING_METRICS, "auc", "log_loss")


def test_values_are_means_over_users_and_over_rows(interactions: pd.DataFrame) -> None:
    scores = random_scores(interactions)
    users, items, labels = (interactions[name].to_numpy() for name in ("user_id", "movie_id", "label"))
    ranking = ranking_metrics_by_user(users, items, labels, scores)
    expected = {name: ranking[name].mean() for name in RANKING_METRICS}
    expected |= {"auc": auc(labels, scores), "log_loss": log_loss(labels, scores)}
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
    assert 0.5 < values["ndcg_at_10_reference"] < 1
    assert values["recall_at_10"] == values["recall_at_10_reference"] < 1


def test_scores_that_are_no_probabilities_have_no_log_loss(interactions: pd.DataFrame) -> None:
    scores = random_scores(interactions)
    values = as_dict(evaluate("stars", interactions, scores * 9 - 3, are_probabilities=False))
    expected = as_dict(evaluate("same order", interactions, scores))
    del expected["log_loss"]
    assert values == pytest.approx(expected)


def test_comparison_has_one_row_a_model_and_one_column_a_metric(interactions: pd.DataFrame) -> None:
    first = evaluate("zebra", interactions, random_scores(interactions, 1) * 7, are_probabilities=False)
    second = evaluate("aardvark", interactions, random_scores(interactions, 2))
    table = comparison_table(iter([first, second]))
    assert table.index.tolist() == ["zebra", "aardvark"]
    assert tuple(table.columns) == METRICS
    assert table.loc["aardvark"].to_dict() == as_dict(second)
    assert table.loc["zebra"].drop("log_loss").to_dict() == as_dict(first)
    assert table.isna().to_numpy().sum() == 1
    assert np.isnan(table.loc["zebra", "log_loss"])


def test_comparison_without_probabilities_has_no_column_of_log_loss(interactions: pd.DataFrame) -> None:
    only = evaluate("stars", interactions, random_scores(interactions), are_probabilities=False)
    assert tuple(comparison_table([only]).columns) == METRICS[:-1]
