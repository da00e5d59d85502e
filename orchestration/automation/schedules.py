"""The nightly schedule, and the sensor that runs the same job when files arrive."""

import dagster as dg

from ml.errors import DataError
from ml.files import digest
from orchestration.automation import alerts
from orchestration.automation.jobs import PIPELINE, SELECTIONS, pipeline
from orchestration.automation.staleness import Planner
from orchestration.config.settings import settings
from orchestration.resources.raw_data import RawData

_ARRIVALS_SECONDS = 60


def nightly() -> dg.ScheduleDefinition:
    """The pipeline every night, unless somebody turns the schedule off. Raises DataError."""
    try:
        return _schedule()
    except dg.DagsterInvalidDefinitionError:
        raise DataError(
            f"SCHEDULE_CRON={settings().schedule_cron!r}: expected five cron fields, such as '0 3 * * *'; set it in "
            "the environment or in .env"
        ) from None


def _schedule() -> dg.ScheduleDefinition:
    @dg.schedule(
        job=pipeline,
        name="nightly",
        cron_schedule=settings().schedule_cron,
        execution_timezone=settings().schedule_timezone,
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Rebuilds and publishes what is stale.",
    )
    def evaluate(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        # One run per tick: a second daemon on the same instance launches none for the same key.
        run_key = context.scheduled_execution_time.isoformat()
        return _request("The schedule nightly", context.instance, context.repository_def, run_key)

    return evaluate


@dg.sensor(
    name="arrivals",
    job=pipeline,
    minimum_interval_seconds=_ARRIVALS_SECONDS,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Runs the pipeline as soon as files have arrived, without waiting for the night.",
)
def arrivals(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
    """Called by Dagster."""
    ingestion = RawData().ingestion
    if not (arrived := ingestion.arrived()):
        return dg.SkipReason(f"Nothing has arrived in {ingestion.incoming}")
    return _request("The sensor arrivals", context.instance, context.repository_def, digest(arrived.encode()))


def _request(
    who: str, instance: dg.DagsterInstance, repository: dg.RepositoryDefinition | None, run_key: str | None = None
) -> dg.RunRequest:
    """A run of what is stale; at most one per key."""
    try:
        assert repository is not None  # noqa: S101 - Dagster sets it when it evaluates
        plan = Planner(instance, repository.asset_graph, RawData()).plan(SELECTIONS[PIPELINE])
    except Exception as error:  # there is no run yet whose failure alert_on_failure could report
        alerts.post(alerts.tick_text(who, error))
        raise
    return dg.RunRequest(run_key=run_key, run_config={"ops": plan.ops}, asset_selection=plan.selection)
