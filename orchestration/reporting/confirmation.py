"""Confirm up-to-date assets that Dagster shows as failed, since an earlier run failed before it reached them.

Dagster shows an asset and its checks as failed until they are recorded again, even if nothing about them has changed.
So the events of the last good run are recorded once more, without a run.
"""

from collections.abc import Sequence

import dagster as dg
from dagster import AssetCheckKey, AssetKey

# Dagster has no public name for the status of a check's execution.
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus as Status

_EVALUATED = {Status.SUCCEEDED, Status.FAILED}


def confirm(instance: dg.DagsterInstance, assets: Sequence[AssetKey], checks: Sequence[AssetCheckKey]) -> list[str]:
    """Record the last materializations and check results again where Dagster shows a later run's failure instead.

    Args:
        instance: holds the records.
        assets: up to date; materialized at least once.
        checks: of these assets.

    Returns:
        Names of the confirmed assets.
    """
    confirmed = {key for key in assets if _confirm_materialization(instance, key)}
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(checks)
    for check in checks:
        record = latest.get(check)
        if record and record.status is Status.PLANNED and _confirm_check(instance, check):
            confirmed.add(check.asset_key)
    return sorted(key.to_user_string() for key in confirmed)


def _confirm_materialization(instance: dg.DagsterInstance, key: AssetKey) -> bool:
    records = instance.get_asset_records([key])
    entry = records[0].asset_entry if records else None
    last = entry.last_materialization if entry else None
    if entry is None or last is None or last.asset_materialization is None:
        return False
    planned = entry.last_planned_materialization_run_id or entry.last_run_id
    if planned in (None, last.run_id) or not _is_later(instance, planned, last.timestamp):
        return False
    instance.report_runless_asset_event(last.asset_materialization)
    return True


def _is_later(instance: dg.DagsterInstance, run_id: str | None, moment: float) -> bool:
    """Whether a run that failed or was canceled was created after a moment, in seconds since 1970."""
    record = instance.get_run_record_by_id(run_id) if run_id else None
    return (
        record is not None
        and record.dagster_run.is_finished
        and not record.dagster_run.is_success
        and record.create_timestamp.timestamp() > moment
    )


def _confirm_check(instance: dg.DagsterInstance, check: AssetCheckKey) -> bool:
    history = instance.event_log_storage.get_asset_check_execution_history(check, limit=1, status=_EVALUATED)
    event = history[0].event if history else None
    if event is None or event.dagster_event is None:
        return False
    instance.report_runless_asset_event(event.dagster_event.asset_check_evaluation_data)
    return True
