"""When the job runs by itself."""

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
    """The job every night, running unless somebody turns it off. Raises DataError."""
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
        description="Remakes and republishes what has changed since it was last made.",
    )
    def evaluate(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        # One run a tick, whoever evaluates it: a second daemon on the same instance launches none.
        run_key = context.scheduled_execution_time.isoformat()
        return _request("The schedule nightly", context.instance, context.repository_def, run_key)

    return evaluate


@dg.sensor(
    name="arrivals",
    job=pipeline,
    minimum_interval_seconds=_ARRIVALS_SECONDS,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Runs the job as soon as files have arrived, in place of waiting for the night.",
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
    """A run of what has changed; one alone for a key."""
    try:
        assert repository is not None  # noqa: S101 - Dagster gives it to what it evaluates
        plan = Planner(instance, repository.asset_graph, RawData()).plan(SELECTIONS[PIPELINE])
    except Exception as error:  # there is no run yet, whose failure the sensor would tell
        alerts.post(alerts.tick_text(who, error))
        raise
    return dg.RunRequest(run_key=run_key, run_config={"ops": plan.ops}, asset_selection=plan.selection)
