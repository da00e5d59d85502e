"""The one job."""

import dagster as dg

PIPELINE = "recommender_pipeline"

pipeline = dg.define_asset_job(
    PIPELINE, selection=dg.AssetSelection.all(), description="Raw ratings to published top-10 tables."
)
