"""The jobs."""

import dagster as dg

from ml.features.splits import PAPER, RANDOM, TEMPORAL
from orchestration.config.data_sets import DataSet

PIPELINE = "recommender_pipeline"
TEMPORAL_EVALUATION = "temporal_evaluation"
PAPER_PROTOCOL = "paper_protocol"
JOB_OF_SPLIT = {RANDOM: PIPELINE, TEMPORAL: TEMPORAL_EVALUATION, PAPER: PAPER_PROTOCOL}

_PAPER_ASSETS = dg.AssetSelection.groups(PAPER)
_PIPELINE_ASSETS = dg.AssetSelection.all().materializable() - _PAPER_ASSETS
# Jobs whose runs skip up-to-date assets.
SELECTIONS = {
    PIPELINE: _PIPELINE_ASSETS,
    TEMPORAL_EVALUATION: _PIPELINE_ASSETS - dg.AssetSelection.assets("promotion").downstream(),
}

pipeline = dg.define_asset_job(
    PIPELINE, selection=SELECTIONS[PIPELINE], description="Raw ratings to published top-10 tables."
)
temporal_evaluation = dg.define_asset_job(
    TEMPORAL_EVALUATION,
    selection=SELECTIONS[TEMPORAL_EVALUATION],
    description="The same models trained on the earliest ratings and measured on the latest, for a partition such as "
    f"{DataSet('ml-1m', TEMPORAL).key}; publishes nothing.",
)
paper_protocol = dg.define_asset_job(
    PAPER_PROTOCOL,
    selection=_PAPER_ASSETS.upstream().required_multi_asset_neighbors(),
    description="AutoInt and AutoInt+ trained and measured as in their paper; publishes nothing.",
)
