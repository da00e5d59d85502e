"""The jobs."""

import dagster as dg

from orchestration.resources.source import TEMPORAL

PIPELINE = "recommender_pipeline"
TEMPORAL_EVALUATION = "temporal_evaluation"

pipeline = dg.define_asset_job(
    PIPELINE, selection=dg.AssetSelection.all(), description="Raw ratings to published top-10 tables."
)
temporal_evaluation = dg.define_asset_job(
    TEMPORAL_EVALUATION,
    selection=dg.AssetSelection.all() - dg.AssetSelection.assets("top10_recommendations"),
    description="The same models trained on the earliest ratings and measured on the latest; publishes nothing.",
    config={"resources": {"raw_data": {"config": {"split": TEMPORAL}}}},
)
