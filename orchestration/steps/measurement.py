"""Measure models on the test rows, log the results to MLflow and compare them with the last evaluation."""

from collections.abc import Mapping, Sequence

import dagster as dg
import numpy as np
import pandas as pd

from ml import schema
from ml.checks import Finding
from ml.errors import DataError
from ml.evaluation.stability import MetricLimits
from orchestration.reporting.check_results import warning
from orchestration.reporting.evaluation import headline_columns, values_by_metric
from orchestration.reporting.metadata import markdown_table
from orchestration.resources.storage import Storage
from orchestration.tracking.registered_version import RegisteredVersion
from orchestration.tracking.resource import Tracking


def measure_scores(
    tracking: Tracking, version: RegisteredVersion, test: pd.DataFrame, scores: np.ndarray
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Measure a version's scores of the test rows and log the metrics and the reliability plot to its MLflow run.

    Args:
        tracking: of the data set.
        version: the version.
        test: encoded test rows.
        scores: [rows] float32.

    Returns:
        Columns model, metric, value; and the reliability bins.
    """
    from ml.evaluation import plots
    from ml.evaluation.calibration import reliability
    from ml.evaluation.metric_tables import evaluate

    metrics = evaluate(version.model, test, scores)
    bins = reliability(test[schema.LABEL].to_numpy(), scores)
    tracking.log_evaluation(version, values_by_metric(metrics))
    tracking.log_picture([version], plots.reliability_plot(version.model, bins), "reliability.png")
    return metrics, bins


def measure_lists(
    tracking: Tracking,
    version: RegisteredVersion,
    train: pd.DataFrame,
    test: pd.DataFrame,
    lists: pd.DataFrame,
    genres: np.ndarray,
) -> pd.DataFrame:
    """Measure a version's lists over the whole catalogue and log the metrics to its MLflow run.

    Args:
        tracking: of the data set.
        version: the version.
        train: encoded training rows.
        test: encoded test rows.
        lists: the version's lists of movies without training rows.
        genres: ``genre_sets`` of all movies of the catalogue.

    Returns:
        Columns model, metric, value.
    """
    from ml.evaluation.metric_tables import evaluate_lists

    metrics = evaluate_lists(version.model, train, test, lists, genres)
    tracking.log_evaluation(version, values_by_metric(metrics))
    return metrics


def compare(
    train: pd.DataFrame,
    test: pd.DataFrame,
    scores: Mapping[str, np.ndarray],
    lists: Mapping[str, pd.DataFrame],
) -> dict[str, pd.DataFrame]:
    """Compare models and baselines pair by pair, and measure each in every activity group.

    Args:
        train: encoded training rows.
        test: encoded test rows.
        scores: of the test rows, by model or baseline.
        lists: of movies without training rows, by model or baseline.

    Returns:
        The tables ``comparison`` and ``evaluation_by_activity``.
    """
    from ml.evaluation.activity import metrics_by_activity
    from ml.evaluation.intervals import compare_lists, compare_models

    by_activity = [metrics_by_activity(name, train, test, values) for name, values in scores.items()]
    return {
        "comparison": pd.concat([compare_models(test, scores), compare_lists(test, lists)], ignore_index=True),
        "evaluation_by_activity": pd.concat(by_activity, ignore_index=True),
    }


def compare_with_last(
    storage: Storage, evaluation: pd.DataFrame, models: Sequence[str], limits: MetricLimits
) -> dg.AssetCheckResult:
    """Check ``metric_drops`` of the models. Call it before evaluation.parquet is replaced.

    Args:
        storage: holds the last evaluation.
        evaluation: the new one: model, metric, value.
        models: names of the models to compare.
        limits: accepted drops.
    """
    from ml.evaluation import stability

    try:
        last = storage.find_table("evaluation", ["model", "metric", "value"])
    except DataError as error:  # the check reports the damage, and the new table replaces the damaged one
        summary = f"Not compared with the last evaluation: {error}"
        return warning("model_comparison", Finding("metric_drops", False, {"summary": summary}))
    before = evaluation.iloc[:0] if last is None else last
    drops = stability.metric_drops(before, evaluation[evaluation["model"].isin(models)])
    return warning("model_comparison", stability.no_metric_drops(drops, limits), {"changes": markdown_table(drops)})


def log_comparison(tracking: Tracking, versions: Sequence[RegisteredVersion], by_model: pd.DataFrame) -> None:
    """Log the plot of all models and baselines to the run of each version.

    Args:
        tracking: of the data set.
        versions: the compared versions.
        by_model: one row per model or baseline, one column per metric.
    """
    from ml.evaluation.plots import comparison_plot

    plot = comparison_plot(f"models and baselines on {tracking.dataset}", headline_columns(by_model))
    tracking.log_picture(versions, plot, "comparison.png")
