"""All metrics of one set of scores, in the long form that ``evaluation.parquet`` has."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from ml import schema
from ml.evaluation.classification import auc, log_loss
from ml.evaluation.ranking import RANKING_METRICS, ranking_metrics_by_user
from ml.models.baselines import BiasedMatrixFactorization, movie_mean_scores, random_scores

METRICS = (*RANKING_METRICS, "auc", "log_loss")


def evaluate(
    model: str, test_interactions: pd.DataFrame, scores: np.ndarray, are_probabilities: bool = True
) -> pd.DataFrame:
    """Metrics of one model's scores on the test rows.

    Args:
        model: name for the ``model`` column.
        test_interactions: encoded test rows: user_id, movie_id, label.
        scores: [rows] float, the higher the better.
        are_probabilities: without it there is no log loss, which only probabilities have.

    Returns:
        Columns model (str), metric (str, of ``METRICS``), value (float64).
    """
    labels = test_interactions[schema.LABEL].to_numpy()
    users, items = test_interactions["user_id"].to_numpy(), test_interactions["movie_id"].to_numpy()
    values = dict(ranking_metrics_by_user(users, items, labels, scores).mean())
    values["auc"] = auc(labels, scores)
    if are_probabilities:
        values["log_loss"] = log_loss(labels, scores)
    return pd.DataFrame({"model": model, "metric": list(values), "value": list(values.values())})


def comparison_table(evaluations: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """One row a model, one column a metric, both in order of first appearance; NaN where a metric does not apply."""
    long = pd.concat(list(evaluations), ignore_index=True)
    wide = long.pivot_table(index="model", columns="metric", values="value", sort=False)
    return wide.reindex(columns=[name for name in METRICS if name in wide])


def evaluate_baselines(
    train_interactions: pd.DataFrame, test_interactions: pd.DataFrame, seed: int = 42
) -> pd.DataFrame:
    """Metrics of what needs no network, in the form of ``evaluate``.

    Models: ``random`` (random order), ``movie_mean``, ``matrix_factorization`` (of ratings, so without a log loss) and
    ``ceiling`` (the perfect order).

    Args:
        train_interactions: encoded training rows: user_id, movie_id, label, rating.
        test_interactions: encoded test rows.
        seed: of the random order and of the factorisation.
    """
    labels = test_interactions[schema.LABEL].to_numpy(np.float64)
    factorization = BiasedMatrixFactorization(seed=seed).fit_predict(train_interactions, test_interactions)
    evaluations = [
        evaluate("random", test_interactions, random_scores(len(labels), seed), are_probabilities=False),
        evaluate("movie_mean", test_interactions, movie_mean_scores(train_interactions, test_interactions)),
        evaluate("matrix_factorization", test_interactions, factorization, are_probabilities=False),
        evaluate("ceiling", test_interactions, labels),
    ]
    return pd.concat(evaluations, ignore_index=True)
