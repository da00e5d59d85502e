"""Whether what comes in at night still looks like what came before."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from ml.evaluation.drift_findings import DriftThresholds
from ml.files import digest
from ml.small_charts import bar_chart, line_chart
from orchestration.assets.common import OWNERS
from orchestration.config.code_versions import code_version
from orchestration.reporting.check_results import warning
from orchestration.reporting.metadata import drawing, markdown_table

_FIELDS_DRAWN = 8
_CHECKS = {
    "counts": "About as many ratings, users and movies as in the ingestion before.",
    "positive_share": "About the share of positive labels of the ingestion before.",
    "population_stability": "Every field is distributed about as in the ingestion before.",
    "unknown_codes": "Few rows have a value that was not known before.",
}


def drift_asset(limits: DriftThresholds) -> dg.AssetsDefinition:
    """The asset that compares the last two ingestions.

    Args:
        limits: beyond which its checks warn; part of its code version.
    """

    @dg.asset(
        group_name="monitoring",
        owners=OWNERS,
        code_version=f"{code_version(__name__)}-{digest(limits.model_dump_json().encode())}",
        kinds={"pandas", "parquet"},
        check_specs=[dg.AssetCheckSpec(name, asset="data_drift", description=text) for name, text in _CHECKS.items()],
    )
    def data_drift(interactions: pd.DataFrame, ingestion_batches: dict[str, Any]) -> Iterator[Any]:
        """Tonight's new ratings against those of the night before; beyond the limits of monitoring.yaml, it warns.

        Numbers of ratings, users and movies, the share of likes, the distribution of each feature, values never seen
        before.
        """
        from ml.evaluation.drift import compare_nights
        from ml.evaluation.drift_findings import drift_findings, with_limits

        found = compare_nights(interactions, ingestion_batches)
        for finding in drift_findings(found, limits):
            yield warning("data_drift", finding)
        likes = found.totals[["positive_share"]]
        metadata: dict[str, Any] = {}  # what is looked at first comes first
        if len(found.fields):
            fields = with_limits(found.fields, limits)
            indices = fields.set_index("field")["stability_index"].nlargest(_FIELDS_DRAWN)
            metadata["least_stable_fields"] = drawing("population stability index by field", bar_chart(indices))
        if len(likes) > 1:
            metadata["likes_by_ingestion"] = drawing("share of positive labels by ingestion", line_chart(likes))
        metadata["by_ingestion"] = markdown_table(found.totals.reset_index())
        if len(found.fields):
            metadata["by_field"] = markdown_table(fields)
        yield dg.MaterializeResult(value=found.table, metadata={**metadata, **found.figures})

    return data_drift
