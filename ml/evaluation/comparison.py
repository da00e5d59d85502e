"""Compare models by evaluations in the long form of ``evaluation.parquet``."""

from collections.abc import Iterable, Mapping

import pandas as pd

from ml.evaluation.catalogue import CATALOGUE_METRICS
from ml.evaluation.ranking import RANKING_METRICS

METRICS = (*RANKING_METRICS, "auc", "log_loss", "expected_calibration_error")


def comparison_table(evaluations: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Pivot evaluations: one row per model in order of first appearance, one column per metric, NaN if not applicable.

    Columns are in the order of ``METRICS`` and ``CATALOGUE_METRICS``, without metrics that no model has. A metric that
    could not be computed, such as the AUC of rows with one label, has a column of NaN.
    """
    long = pd.concat(list(evaluations), ignore_index=True)
    wide = long.pivot_table(index="model", columns="metric", values="value", sort=False, dropna=False)
    return wide.reindex(columns=[name for name in (*METRICS, *CATALOGUE_METRICS) if name in wide])


def comparison_by_split(evaluations: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Pivot evaluations: one row per model and metric, one column per split; NaN if a split lacks a model."""
    columns = {split: table.set_index(["model", "metric"])["value"] for split, table in evaluations.items()}
    return pd.concat(columns, axis=1, sort=False)
