"""Whether newly ingested ratings still look like the earlier ones."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from ml import schema
from ml.data.blocks import Blocks
from ml.evaluation.drift_findings import DriftThresholds
from ml.features.feature_map import FeatureMap
from ml.features.tables import join_interactions
from ml.files import digest
from ml.small_charts import bar_chart, line_chart
from orchestration.assets.common import LAST, OWNERS
from orchestration.config.code_versions import code_version
from orchestration.config.data_sets import DATA_SETS
from orchestration.reporting.check_results import check_spec, checks_last, warning
from orchestration.reporting.metadata import drawing, markdown_table

if TYPE_CHECKING:
    from ml.evaluation.drift import Comparison

_FEATURES_DRAWN = 8
_CHECKS = {
    "counts": "About as many ratings, users and movies as in the ingestion before.",
    "positive_share": "About the same share of positive labels as in the ingestion before.",
    "population_stability": "Every feature is distributed about as in the ingestion before.",
    "unknown_codes": "Few rows have a value that was not known before.",
}


def drift_asset(limits: DriftThresholds) -> dg.AssetsDefinition:
    """The asset that compares the last two ingestions.

    Args:
        limits: beyond which its checks warn; part of its code version.
    """

    @dg.asset(
        group_name="monitoring",
        partitions_def=DATA_SETS,
        owners=OWNERS,
        code_version=f"{code_version(__name__)}-{digest(limits.model_dump_json().encode())}",
        kinds={"pandas", "parquet"},
        op_tags=LAST,
        check_specs=[check_spec(name, "data_drift", text) for name, text in _CHECKS.items()],
    )
    @checks_last
    def data_drift(
        users: pd.DataFrame,
        movies: pd.DataFrame,
        ratings: Blocks,
        ingestion_batches: dict[str, Any],
        feature_map: dict[str, Any],
    ) -> Iterator[Any]:
        """The last ingestion's ratings compared with those of the ingestion before; warns beyond monitoring.yaml.

        Numbers of ratings, users and movies, share of likes, distribution of each feature, values never seen before.
        """
        from ml.evaluation.drift import compare_nights
        from ml.evaluation.drift_findings import drift_findings

        fields = FeatureMap.from_dict(feature_map).fields
        names = {field.name for field in fields} | {schema.LABEL, schema.BATCH}
        users, movies = (table[[name for name in table if name in names]] for table in (users, movies))
        joined = (join_interactions(users, movies, block)[sorted(names)] for block in ratings)
        found = compare_nights(pd.concat(joined, ignore_index=True), ingestion_batches, fields)
        for finding in drift_findings(found, limits):
            yield warning("data_drift", finding)
        yield dg.MaterializeResult(value=found.table, metadata=_metadata(found, limits))

    return data_drift


def _metadata(found: "Comparison", limits: DriftThresholds) -> dict[str, Any]:
    """Charts first, then tables, then the figures that the UI plots over time."""
    from ml.evaluation.drift_findings import with_limits

    charts: dict[str, Any] = {}
    tables = {"by_ingestion": markdown_table(found.totals.reset_index())}
    if len(found.fields):
        by_feature = with_limits(found.fields, limits)
        indices = by_feature.set_index("field")["stability_index"].nlargest(_FEATURES_DRAWN)
        charts["least_stable_features"] = drawing("population stability index by feature", bar_chart(indices))
        tables["by_feature"] = markdown_table(by_feature)
    likes = found.totals[["positive_share"]]
    if len(likes) > 1:
        charts["likes_by_ingestion"] = drawing("share of positive labels by ingestion", line_chart(likes))
    return {**charts, **tables, **found.figures}
