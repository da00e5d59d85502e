"""Everything that Dagster loads; this file only composes."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import dagster as dg

from ml.features.splits import PAPER
from orchestration.assets import features, ingestion, monthly, operations, raw, report, tables
from orchestration.assets.catalogue import catalogue_assets
from orchestration.assets.collaborative import collaborative_assets
from orchestration.assets.evaluation import evaluation_assets
from orchestration.assets.models import model_assets
from orchestration.assets.monitoring import drift_asset
from orchestration.assets.monthly import monthly_recommendations
from orchestration.assets.recommendations import recommendation_assets
from orchestration.automation.deadlines import deadlines
from orchestration.automation.jobs import PAPER_PROTOCOL, PIPELINE, paper_protocol, pipeline, temporal_evaluation
from orchestration.automation.schedules import arrivals, nightly
from orchestration.automation.sensors import sensors
from orchestration.compute.resource import Compute
from orchestration.config.compute_config import compute_config
from orchestration.config.monitoring_config import monitoring
from orchestration.config.recipes_in_force import paper_models, recipes_in_force, reference_models
from orchestration.config.tracking_config import tracking_rules
from orchestration.resources.raw_data import RawData
from orchestration.resources.storage import DocumentIOManager, FoldsIOManager, Storage, TableIOManager
from orchestration.runtime.executor import one_run_at_a_time
from orchestration.tracking.resource import Tracking

_OF_EVERY_RECIPE = (operations, raw, ingestion, tables, report, features, monthly)  # the assets that no recipe changes


def build_definitions(executor: dg.ExecutorDefinition | None = None, with_paper: bool = False) -> dg.Definitions:
    """Assets, jobs, schedule and resources.

    Args:
        executor: default: one run at a time, one process per step.
        with_paper: whether the assets of the paper's protocol can be materialized. In the code location they only
            show what ``make paper`` has recorded. Otherwise, materializing all assets would train them for hours, on
            the split of another protocol.
    """
    raw_data = RawData()
    storage = Storage(raw_data=raw_data)
    return dg.Definitions(
        assets=list(_assets(with_paper)),
        jobs=[pipeline, temporal_evaluation, monthly_recommendations, *([paper_protocol] if with_paper else [])],
        schedules=[nightly()],
        sensors=[*sensors, deadlines, arrivals],
        resources={
            "raw_data": raw_data,
            "compute": Compute.of(compute_config()),
            "storage": storage,
            "tracking": Tracking(raw_data=raw_data),
            "io_manager": TableIOManager(raw_data=raw_data),
            "document_io_manager": DocumentIOManager(raw_data=raw_data),
            "folds_io_manager": FoldsIOManager(raw_data=raw_data),
        },
        executor=executor or one_run_at_a_time,
    )


@cache  # a launch needs the graph and the job, more than once, and so does each step
def definitions_of(job: str) -> dg.Definitions:
    """The definitions that contain a job."""
    return build_definitions(with_paper=job == PAPER_PROTOCOL)


def _assets(with_paper: bool) -> Iterator[Any]:
    for definition in (*dg.load_assets_from_modules(_OF_EVERY_RECIPE, include_specs=True), *_assets_of_recipes()):
        if isinstance(definition, dg.AssetsDefinition) and not with_paper:
            of_paper = any(spec.group_name == PAPER for spec in definition.specs)
            yield from definition.specs if of_paper else [definition]
        else:
            yield definition


def _assets_of_recipes() -> Iterator[dg.AssetsDefinition]:
    models, limits = reference_models(), monitoring()
    yield from collaborative_assets(recipes_in_force())
    yield from model_assets(recipes_in_force())
    yield from evaluation_assets(recipes_in_force(), models, paper_models(), limits.metric_drop)
    yield from catalogue_assets(models)
    yield from recommendation_assets(models, limits, tracking_rules())
    yield drift_asset(limits.drift)


@dg.definitions
def defs() -> dg.Definitions:
    """The code location."""
    return definitions_of(PIPELINE)
