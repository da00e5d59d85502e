"""The sensor that fails the check on_time of assets that are overdue, for each data set that the schedule runs."""

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

import dagster as dg

from orchestration.assets.operations import RUN_PLAN
from orchestration.automation.staleness import TOP_LISTS
from orchestration.config.data_sets import scheduled_data_sets
from orchestration.config.monitoring_config import monitoring
from orchestration.config.settings import settings
from orchestration.reporting.check_results import ON_TIME
from orchestration.reporting.materializations import last_record
from orchestration.reporting.recorded_checks import PLANNED, latest, replace

_SECONDS = 300
Lateness = Callable[[datetime, datetime], dg.AssetCheckSeverity | None]  # of the last materialization and the present


@dg.sensor(
    name="deadlines",
    minimum_interval_seconds=_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Fails the check on_time of assets that are overdue, for each data set that the schedule runs.",
)
def deadlines(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Called by Dagster."""
    now = datetime.now(ZoneInfo(settings().schedule_timezone))
    found = [text for data_set in scheduled_data_sets() for text in report_lateness(context.instance, data_set, now)]
    return dg.SkipReason("; ".join(found) or "Nothing has become overdue")


def report_lateness(instance: dg.DagsterInstance, data_set: str, now: datetime) -> Iterator[str]:
    """Replace the check's results that no longer hold; yields a line for each.

    Args:
        instance: holds the records.
        data_set: a partition; assets that it never materialized have no deadline.
        now: the present, in the schedule's time zone.
    """
    for asset, lateness in _rules().items():
        check = dg.AssetCheckKey(dg.AssetKey(asset), ON_TIME)
        last = last_record(instance, data_set, check.asset_key)
        record = latest(instance, data_set, [check]).get(check)
        before = record.evaluation if record and record.status is not PLANNED else None
        if last and record and before:
            moment = datetime.fromtimestamp(last.timestamp, now.tzinfo)
            found = _result(check, data_set, moment, lateness(moment, now))
            if (before.passed, before.severity) != (found.passed, found.severity):
                replace(instance, record, found)
                yield f"{asset} of {data_set}: {found.description}"


def _result(
    check: dg.AssetCheckKey, data_set: str, moment: datetime, late: dg.AssetCheckSeverity | None
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=check.asset_key,
        check_name=check.name,
        passed=late is None,
        metadata={},
        severity=late or dg.AssetCheckSeverity.ERROR,
        description=f"Overdue: last materialized on {moment:%Y-%m-%d at %H:%M %Z}." if late else "In time.",
        partition=data_set,
    )


def _rules() -> Mapping[str, Lateness]:
    freshness = monitoring().freshness
    return {RUN_PLAN: freshness.nightly.lateness, TOP_LISTS: freshness.tables.lateness}
