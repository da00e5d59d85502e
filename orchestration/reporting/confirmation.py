"""Confirm up-to-date assets that Dagster shows as failed, since an earlier run failed before it reached them.

Dagster shows an asset and its checks as failed until they are recorded again, even if nothing about them has changed.
So the events of the last good run are recorded once more, without a run.
"""

from collections.abc import Sequence

import dagster as dg
from dagster import AssetCheckKey, AssetKey

from orchestration.reporting.materializations import last_record
from orchestration.reporting.recorded_checks import PLANNED, last_result, latest, replace


def confirm(
    instance: dg.DagsterInstance, partition: str, assets: Sequence[AssetKey], checks: Sequence[AssetCheckKey]
) -> list[str]:
    """Record the last materializations and check results again where Dagster shows a later run's failure instead.

    Args:
        instance: holds the records.
        partition: whose records.
        assets: up to date; materialized at least once.
        checks: of these assets.

    Returns:
        Names of the confirmed assets.
    """
    confirmed = {key for key in assets if _confirm_materialization(instance, partition, key)}
    for check, record in latest(instance, partition, checks).items():
        result = last_result(instance, partition, check)
        unreached = record.status is PLANNED and _has_failed(instance, record.run_id)
        if result and (unreached or (record.status is not PLANNED and check.asset_key in confirmed)):
            replace(instance, record, result)
            confirmed.add(check.asset_key)
    return sorted(key.to_user_string() for key in confirmed)


def _confirm_materialization(instance: dg.DagsterInstance, partition: str, key: AssetKey) -> bool:
    last = last_record(instance, partition, key)
    planned = instance.event_log_storage.get_latest_planned_materialization_info(key, partition)
    if last is None or last.asset_materialization is None or planned is None:
        return False
    if planned.storage_id < last.storage_id or not _has_failed(instance, planned.run_id):
        return False
    instance.report_runless_asset_event(last.asset_materialization)
    return True


def _has_failed(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a run has failed or was canceled."""
    run = instance.get_run_by_id(run_id)
    return run is not None and run.is_finished and not run.is_success
