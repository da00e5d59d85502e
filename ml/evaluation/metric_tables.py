"""All metrics of one set of scores, in the long form that ``evaluation.parquet`` has."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from ml import schema
from ml.evaluation.calibration import expected_calibration_error
from ml.evaluation.catalogue import CATALOGUE_METRICS, catalogue_metrics
from ml.evaluation.classification import auc, log_loss
from ml.evaluation.full_ranking import top_lists
from ml.evaluation.ranking import RANKING_METRICS, ranking_metrics_by_user
from ml.models.baselines import factorization_scores, movie_mean_scores, random_scores
from ml.models.rankers import catalogue_baselines

METRICS = (*RANKING_METRICS, "auc", "log_loss", "expected_calibration_error")
_PROBABILITIES = ("movie_mean", "ceiling")  # the baselines whose scores are


def evaluate(
    model: str, test_interactions: pd.DataFrame, scores: np.ndarray, are_probabilities: bool = True
) -> pd.DataFrame:
    """Metrics of one model's scores on the test rows.

    Args:
        model: name for the ``model`` column.
        test_interactions: encoded test rows: user_id, movie_id, label.
        scores: [rows] float, the higher the better.
        are_probabilities: without it there are no log loss and no calibration error, which only probabilities have.

    Returns:
        Columns model (str), metric (str, of ``METRICS``), value (float64).
    """
    labels = test_interactions[schema.LABEL].to_numpy()
    users, items = test_interactions["user_id"].to_numpy(), test_interactions["movie_id"].to_numpy()
    values = dict(ranking_metrics_by_user(users, items, labels, scores).mean())
    values["auc"] = auc(labels, scores)
    if are_probabilities:
        values["log_loss"] = log_loss(labels, scores)
        values["expected_calibration_error"] = expected_calibration_error(labels, scores)
    return _long(model, values)


def evaluate_lists(
    model: str, train_interactions: pd.DataFrame, test_interactions: pd.DataFrame, lists: pd.DataFrame, movies: int
) -> pd.DataFrame:
    """``catalogue_metrics`` of one model's top lists, in the form of ``evaluate``."""
    return _long(model, catalogue_metrics(train_interactions, test_interactions, lists, movies))


def comparison_table(evaluations: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """One row a model, in order of first appearance, one column a metric; NaN where a metric does not apply.

    The columns are in the order of ``METRICS`` and ``CATALOGUE_METRICS``, without those that no model has; one that
    could not be measured, such as the AUC of rows of one label, is there without values.
    """
    long = pd.concat(list(evaluations), ignore_index=True)
    wide = long.pivot_table(index="model", columns="metric", values="value", sort=False, dropna=False)
    return wide.reindex(columns=[name for name in (*METRICS, *CATALOGUE_METRICS) if name in wide])


def comparison_by_split(evaluations: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row a model and metric, one column a split, in the splits' order; NaN where a split lacks a model."""
    columns = {split: table.set_index(["model", "metric"])["value"] for split, table in evaluations.items()}
    return pd.concat(columns, axis=1, sort=False)


def baseline_scores(train_interactions: pd.DataFrame, test_interactions: pd.DataFrame, seed: int = 42) -> pd.DataFrame:
    """Scores of what needs no network.

    Args:
        train_interactions: encoded training rows: user_id, movie_id, label, rating.
        test_interactions: encoded test rows: user_id, movie_id, label.
        seed: of the random order and of the factorisation.

    Returns:
        One row a test row, with its index; the higher, the better. Float64 columns ``random`` (random order),
        ``movie_mean`` (probabilities), ``matrix_factorization`` (ratings) and ``ceiling`` (the labels: the perfect
        order).
    """
    scores = {
        "random": random_scores(len(test_interactions), seed),
        "movie_mean": movie_mean_scores(train_interactions, test_interactions),
        "matrix_factorization": factorization_scores(train_interactions, test_interactions, seed),
        "ceiling": test_interactions[schema.LABEL].to_numpy(np.float64),
    }
    return pd.DataFrame(scores, index=test_interactions.index)


def evaluate_baselines(test_interactions: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Metrics of the baselines, in the form of ``evaluate``.

    Args:
        test_interactions: encoded test rows: user_id, movie_id, label.
        scores: what ``baseline_scores`` returns, its rows in the order of the test rows.
    """
    evaluations = [
        evaluate(name, test_interactions, scores[name].to_numpy(), are_probabilities=name in _PROBABILITIES)
        for name in scores.columns
    ]
    return pd.concat(evaluations, ignore_index=True)


def baseline_lists(train_interactions: pd.DataFrame, users: int, movies: int, seed: int = 42) -> pd.DataFrame:
    """Top-10 lists of every catalogue baseline (see ``ml.models.rankers``) over movies without training rows.

    Args:
        train_interactions: encoded training rows: user_id, movie_id, label, rating.
        users: number of user codes.
        movies: number of movie codes.
        seed: of the factorisations.

    Returns:
        Columns model (str), user_id (int32), rank (int16), movie_id (int32); ids are codes.
    """
    baselines = catalogue_baselines(train_interactions, users, movies, seed)
    parts = [
        top_lists(baseline.scores, train_interactions, users, movies).assign(model=name)
        for name, baseline in baselines.items()
    ]
    return pd.concat(parts, ignore_index=True)[["model", "user_id", "rank", "movie_id"]]


def evaluate_baseline_lists(
    train_interactions: pd.DataFrame, test_interactions: pd.DataFrame, lists: pd.DataFrame, movies: int
) -> pd.DataFrame:
    """Metrics of what ``baseline_lists`` returns, in the form of ``evaluate``."""
    evaluations = [
        evaluate_lists(str(name), train_interactions, test_interactions, own, movies)
        for name, own in lists.groupby("model", sort=False)
    ]
    return pd.concat(evaluations, ignore_index=True)


def _long(model: str, values: Mapping[str, float]) -> pd.DataFrame:
    return pd.DataFrame({"model": model, "metric": list(values), "value": list(values.values())})
