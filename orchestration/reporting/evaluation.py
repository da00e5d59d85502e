"""What the pages of the evaluation assets show."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import pandas as pd

from ml.small_charts import line_chart
from orchestration.reporting.metadata import drawing, figures_by_model, markdown_table, table_metadata

HEADLINES = ["ndcg_at_10", "auc", "log_loss"]  # few, since the page shows narrow tables in full
_CATALOGUE_HEADLINES = ["catalogue_ndcg_at_10", "catalogue_coverage_at_10"]


def headline_columns(by_model: pd.DataFrame) -> pd.DataFrame:
    """The headline metrics, as far as they were measured.

    Args:
        by_model: one row per model, one column per metric.
    """
    return by_model[[name for name in (*HEADLINES, *_CATALOGUE_HEADLINES) if name in by_model]]


def values_by_metric(metrics: pd.DataFrame) -> dict[str, float]:
    """One model's metrics by name. Columns of ``metrics``: metric, value."""
    return dict(zip(metrics["metric"], metrics["value"].astype(float), strict=True))


def baselines_metadata(by_model: pd.DataFrame) -> dict[str, Any]:
    """All metrics of the baselines as a table, the headlines as figures."""
    return {"metrics": markdown_table(by_model, index=True), **figures_by_model(by_model[HEADLINES])}


def reliability_drawing(bins: pd.DataFrame) -> dg.MarkdownMetadataValue:
    """The share of positives by predicted probability, next to the diagonal of perfect calibration.

    Args:
        bins: of ``ml.evaluation.calibration.reliability``.
    """
    filled = bins.dropna().set_index("mean_probability", drop=False)
    curves = filled[["share_positive", "mean_probability"]].set_axis(["share positive", "perfect"], axis=1)
    return drawing("share of positives by probability", line_chart(curves))


def short_table(table: pd.DataFrame) -> dg.MarkdownMetadataValue:
    """A frame of metrics with four decimals, narrow enough to be shown in full."""
    return markdown_table(table.round(4), index=True)


def headlines_metadata(by_model: pd.DataFrame, models: Sequence[str]) -> dict[str, Any]:
    """The headline metrics: of all as narrow tables, of the models as figures.

    Args:
        by_model: one row per model or baseline, one column per metric.
        models: names of the models.
    """
    tables = {"on_own_test_rows": HEADLINES, "over_the_catalogue": _CATALOGUE_HEADLINES}
    found = {name: by_model.reindex(columns=columns).dropna(how="all") for name, columns in tables.items()}
    shown = {
        name: short_table(table.rename(columns=lambda column: column.removeprefix("catalogue_")))
        for name, table in found.items()
        if len(table)  # the paper's protocol has no lists over the catalogue
    }
    return {**shown, **figures_by_model(headline_columns(by_model).loc[list(models)])}


def comparison_metadata(
    by_model: pd.DataFrame, by_split: pd.DataFrame, tables: Mapping[str, pd.DataFrame]
) -> dict[str, Any]:
    """All tables of the comparison in full.

    Args:
        by_model: one row per model or baseline, one column per metric.
        by_split: one row per model and metric, one column per split.
        tables: ``evaluation``, ``comparison`` and ``evaluation_by_activity``.
    """
    return {
        "all_metrics": markdown_table(by_model, index=True),
        "comparison_by_split": markdown_table(by_split, index=True),
        "differences": markdown_table(tables["comparison"]),  # with their 95 % intervals
        "by_activity": markdown_table(tables["evaluation_by_activity"]),
        **table_metadata(tables["evaluation"], len(tables["evaluation"]), "model_comparison"),
    }
