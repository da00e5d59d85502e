"""Everything that Dagster loads; this file only composes."""

import dagster as dg

from orchestration.assets import (
    catalogue,
    deliveries,
    evaluation,
    features,
    models,
    monitoring,
    monthly,
    operations,
    raw,
    recommendations,
    report,
    tables,
)
from orchestration.executor import one_run_at_a_time
from orchestration.jobs import monthly_recommendations, paper_protocol, pipeline, temporal_evaluation
from orchestration.resources.source import RawData
from orchestration.resources.storage import DocumentIOManager, Storage, TableIOManager
from orchestration.resources.tracking import Tracking
from orchestration.schedules import arrivals, nightly
from orchestration.sensors import sensors


def build_definitions(executor: dg.ExecutorDefinition | None = None) -> dg.Definitions:
    """Assets, job, schedule and resources; the executor defaults to one run at a time, one process a step."""
    raw_data = RawData.configure_at_launch()
    storage = Storage(raw_data=raw_data)
    return dg.Definitions(
        assets=dg.load_assets_from_modules(
            [
                raw,
                deliveries,
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
            ]
        ),
        jobs=[pipeline, temporal_evaluation, paper_protocol, monthly_recommendations],
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


@dg.definitions
def defs() -> dg.Definitions:
    """The code location."""
    return build_definitions()
