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
        return _requests(
            "The schedule nightly",
            context.instance,
            context.repository_def,
            {data_set: f"{tick} {data_set}" for data_set in _scheduled("The schedule nightly")},
        )

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
    ingestions = {data_set: RawData.of(data_set).ingestion for data_set in _scheduled("The sensor arrivals")}
    arrived = {data_set: files for data_set, ingestion in ingestions.items() if (files := ingestion.arrived())}
    if not arrived:
        folders = ", ".join(str(ingestion.incoming) for ingestion in ingestions.values())
        return dg.SkipReason(f"Nothing has arrived in {folders}")
    keys = {data_set: f"{digest(files.encode())} {data_set}" for data_set, files in arrived.items()}
    return _requests("The sensor arrivals", context.instance, context.repository_def, keys)


def _scheduled(who: str) -> tuple[str, ...]:
    with _told(who):
        return scheduled_data_sets()


def _requests(
    who: str, instance: dg.DagsterInstance, repository: dg.RepositoryDefinition | None, run_keys: Mapping[str, str]
) -> list[dg.RunRequest]:
    """A run of what is stale for each data set; at most one per key.

    A data set that cannot be planned does not hold up the others.

    Args:
        who: evaluates.
        instance: holds the records.
        repository: of the assets.
        run_keys: by data set.
    """
    assert repository is not None  # noqa: S101 - Dagster sets it when it evaluates
    requests, failures = [], []
    for data_set, run_key in run_keys.items():
        try:
            with _told(f"{who}, data set {data_set},"):
                plan = Planner(instance, repository.asset_graph, RawData.of(data_set)).plan(SELECTIONS[PIPELINE])
        except Exception as error:
            failures.append(error)
            continue
        add_partition(instance, data_set)
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
