"""When the job runs by itself."""

import dagster as dg

from orchestration import alerts
from orchestration.freshness import Planner
from orchestration.jobs import PIPELINE, SELECTIONS, pipeline
from orchestration.resources.source import RawData
from orchestration.settings import Settings


def nightly() -> dg.ScheduleDefinition:
    """The job every night, running unless somebody turns it off."""
    settings = Settings()

    @dg.schedule(
        job=pipeline,
        name="nightly",
        cron_schedule=settings.schedule_cron,
        execution_timezone=settings.schedule_timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Remakes and republishes what has changed since it was last made.",
    )
    def evaluate(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        graph = context.repository_def.asset_graph
        try:
            plan = Planner(context.instance, graph, RawData()).plan(SELECTIONS[PIPELINE])
        except Exception as error:  # there is no run yet, whose failure the sensor would tell
            alerts.post(alerts.tick_text("nightly", error))
            raise
        return dg.RunRequest(run_config={"ops": plan.ops}, asset_selection=plan.selection)

    return evaluate
