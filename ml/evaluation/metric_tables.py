"""Compute all metrics of a model's scores or lists, in the long form of ``evaluation.parquet``."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from ml import schema
from ml.evaluation.calibration import expected_calibration_error
from ml.evaluation.catalogue import catalogue_metrics
from ml.evaluation.classification import auc, log_loss
from ml.evaluation.full_ranking import top_lists
from ml.evaluation.ranking import ranking_metrics_by_user
from ml.models.baselines import factorization_scores, movie_mean_scores, random_scores
from ml.models.rankers import catalogue_baselines

_PROBABILITIES = ("movie_mean", "ceiling")  # the baselines whose scores are probabilities


def evaluate(
    model: str, test_interactions: pd.DataFrame, scores: np.ndarray, are_probabilities: bool = True
) -> pd.DataFrame:
    """Compute metrics of one model's scores on the test rows.

    Args:
        model: value of the ``model`` column.
        test_interactions: encoded test rows: user_id, movie_id, label.
        scores: float [rows], higher is better.
        are_probabilities: whether to compute log loss and calibration error, which need probabilities.

    Returns:
        Columns model (str), metric (str, one of ``comparison.METRICS``), value (float64).
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
    model: str,
    train_interactions: pd.DataFrame,
    test_interactions: pd.DataFrame,
    lists: pd.DataFrame,
    genres: np.ndarray,
) -> pd.DataFrame:
    """Compute ``catalogue_metrics`` of one model's top lists, in the form of ``evaluate``."""
    return _long(model, catalogue_metrics(train_interactions, test_interactions, lists, genres))


def baseline_scores(train_interactions: pd.DataFrame, test_interactions: pd.DataFrame, seed: int = 42) -> pd.DataFrame:
    """Score the test rows with the baselines.

    Args:
        train_interactions: encoded training rows: user_id, movie_id, label, rating.
        test_interactions: encoded test rows: user_id, movie_id, label.
        seed: random seed of the random order and of the factorization.

    Returns:
        One row per test row, with the same index; higher is better. Float64 columns ``random`` (random order),
        ``movie_mean`` (probabilities), ``matrix_factorization`` (ratings) and ``ceiling`` (labels: perfect order).
    """
    scores = {
        "random": random_scores(len(test_interactions), seed),
        "movie_mean": movie_mean_scores(train_interactions, test_interactions),
        "matrix_factorization": factorization_scores(train_interactions, test_interactions, seed),
        "ceiling": test_interactions[schema.LABEL].to_numpy(np.float64),
    }
    return pd.DataFrame(scores, index=test_interactions.index)


def evaluate_baselines(test_interactions: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Compute metrics of the baselines, in the form of ``evaluate``.

    Args:
        test_interactions: encoded test rows: user_id, movie_id, label.
        scores: result of ``baseline_scores``, in the order of the test rows.
    """
    evaluations = [
        evaluate(name, test_interactions, scores[name].to_numpy(), are_probabilities=name in _PROBABILITIES)
        for name in scores.columns
    ]
    return pd.concat(evaluations, ignore_index=True)


def baseline_lists(train_interactions: pd.DataFrame, users: int, movies: int, seed: int = 42) -> pd.DataFrame:
    """Rank the items without training rows with every catalog baseline (see ``ml.models.rankers``).

    Args:
        train_interactions: encoded training rows: user_id, movie_id, label, rating.
        users: number of users.
        movies: number of items.
        seed: random seed of the factorizations.

    Returns:
        Top-10 lists. Columns model (str), user_id (int32), rank (int16), movie_id (int32); ids are indices.
    """
    baselines = catalogue_baselines(train_interactions, users, movies, seed)
    parts = [
        top_lists(baseline, train_interactions, users, movies).assign(model=name)
        for name, baseline in baselines.items()
    ]
    return pd.concat(parts, ignore_index=True)[["model", "user_id", "rank", "movie_id"]]


def evaluate_baseline_lists(
    train_interactions: pd.DataFrame, test_interactions: pd.DataFrame, lists: pd.DataFrame, genres: np.ndarray
) -> pd.DataFrame:
    """Compute metrics of the result of ``baseline_lists``, in the form of ``evaluate``."""
    evaluations = [
        evaluate_lists(str(name), train_interactions, test_interactions, own, genres)
        for name, own in lists.groupby("model", sort=False)
    ]
    return pd.concat(evaluations, ignore_index=True)


def _long(model: str, values: Mapping[str, float]) -> pd.DataFrame:
    return pd.DataFrame({"model": model, "metric": list(values), "value": list(values.values())})
