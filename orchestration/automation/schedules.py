"""The nightly schedule, and the sensor that runs the same job when files arrive."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dagster as dg

from ml.errors import DataError
from ml.files import digest
from orchestration.automation import alerts
from orchestration.automation.jobs import PIPELINE, SELECTIONS, pipeline
from orchestration.automation.staleness import Planner
from orchestration.config.data_sets import add_partition, scheduled_data_sets
from orchestration.config.settings import settings
from orchestration.resources.raw_data import RawData

_ARRIVALS_SECONDS = 60
_NIGHTLY = "The schedule nightly"
_Context = dg.ScheduleEvaluationContext | dg.SensorEvaluationContext


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
    def evaluate(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest]:
        # One run per tick and data set: a second daemon on the same instance launches none for the same key.
        tick = context.scheduled_execution_time.isoformat()
        with _told(_NIGHTLY):
            data_sets = scheduled_data_sets()
        return _requests(_NIGHTLY, context, {data_set: f"{tick} {data_set}" for data_set in data_sets})

    return evaluate


@dg.sensor(
    name="arrivals",
    job=pipeline,
    minimum_interval_seconds=_ARRIVALS_SECONDS,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Runs the pipeline as soon as files have arrived, without waiting for the night.",
)
def arrivals(context: dg.SensorEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
    """Called by Dagster."""
    run_keys, others = {}, []
    for data_set in scheduled_data_sets():
        try:
            ingestion = RawData.of(data_set).ingestion
            if arrived := ingestion.arrived():
                run_keys[data_set] = f"{digest(arrived.encode())} {data_set}"
            else:
                others.append(f"Nothing has arrived in {ingestion.incoming}")
        except DataError as error:  # which the nightly schedule reports
            others.append(str(error))
    return _requests("The sensor arrivals", context, run_keys) if run_keys else dg.SkipReason("; ".join(others))


def _requests(who: str, context: _Context, run_keys: Mapping[str, str]) -> list[dg.RunRequest]:
    """A run of what is stale for each data set; at most one per key.

    A data set that cannot be planned does not hold up the others.

    Args:
        who: evaluates.
        context: of the evaluation.
        run_keys: by data set.
    """
    assert context.repository_def is not None  # noqa: S101 - Dagster sets it when it evaluates
    graph = context.repository_def.asset_graph
    requests, failures = [], []
    for data_set, run_key in run_keys.items():
        try:
            with _told(f"{who}, data set {data_set},"):
                plan = Planner(context.instance, graph, RawData.of(data_set)).plan(SELECTIONS[PIPELINE])
        except Exception as error:
            context.log.error(f"Data set {data_set}: {error}")
            failures.append(error)
            continue
        add_partition(context.instance, data_set)
        requests.append(
            dg.RunRequest(
                run_key=run_key,
                partition_key=data_set,
                run_config={"ops": plan.ops},
                asset_selection=plan.selection,
            )
        )
    if failures and not requests:  # the tick fails, for the UI to show
        raise failures[0]
    return requests


@contextmanager
def _told(who: str) -> Iterator[None]:
    """Post an error, since there is no run yet whose failure alert_on_failure could report."""
    try:
        yield
    except Exception as error:
        alerts.post(alerts.tick_text(who, error))
        raise
