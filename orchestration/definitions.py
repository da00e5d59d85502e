"""Everything that Dagster loads; this file only composes."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import dagster as dg

from ml.features.splits import PAPER
from orchestration.assets import (
    catalogue,
    evaluation,
    features,
    ingestion,
    models,
    monitoring,
    monthly,
    operations,
    raw,
    recommendations,
    report,
    tables,
)
from orchestration.assets.monthly import monthly_recommendations
from orchestration.automation.jobs import PAPER_PROTOCOL, paper_protocol, pipeline, temporal_evaluation
from orchestration.automation.schedules import arrivals, nightly
from orchestration.automation.sensors import sensors
from orchestration.resources.raw_data import RawData
from orchestration.resources.storage import DocumentIOManager, Storage, TableIOManager
from orchestration.runtime.executor import one_run_at_a_time
from orchestration.tracking.resource import Tracking

_MODULES = (
    raw,
    ingestion,
    tables,
    report,
    features,
    models,
    evaluation,
    catalogue,
    recommendations,
    monthly,
    monitoring,
    operations,
)


def build_definitions(executor: dg.ExecutorDefinition | None = None, with_paper: bool = False) -> dg.Definitions:
    """Assets, jobs, schedule and resources.

    Args:
        executor: default: one run at a time, one process a step.
        with_paper: whether the assets of the paper's protocol can be materialized. In the code location they only
            show what ``make paper`` has recorded, so that materializing all assets does not train them, for hours, on
            another protocol's split.
    """
    raw_data = RawData.configure_at_launch()
    storage = Storage(raw_data=raw_data)
    return dg.Definitions(
        assets=list(_assets(with_paper)),
        jobs=[pipeline, temporal_evaluation, monthly_recommendations, *([paper_protocol] if with_paper else [])],
        schedules=[nightly()],
        sensors=[*sensors, arrivals],
        resources={
            "raw_data": raw_data,
            "storage": storage,
            "tracking": Tracking(raw_data=raw_data),
            "io_manager": TableIOManager(storage=storage),
            "document_io_manager": DocumentIOManager(storage=storage),
        },
        executor=executor or one_run_at_a_time,
    )


@cache  # a launch asks for the graph and for the job, more than once
def definitions_of(job: str) -> dg.Definitions:
    """The definitions that a job belongs to."""
    return build_definitions(with_paper=job == PAPER_PROTOCOL)


def _assets(with_paper: bool) -> Iterator[Any]:
    for definition in dg.load_assets_from_modules(_MODULES, include_specs=True):
        if isinstance(definition, dg.AssetsDefinition) and not with_paper:
            of_paper = any(spec.group_name == PAPER for spec in definition.specs)
            yield from definition.specs if of_paper else [definition]
        else:
            yield definition


@dg.definitions
def defs() -> dg.Definitions:
    """The code location."""
    return build_definitions()
