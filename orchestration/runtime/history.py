"""Bounds the history of runs: Dagster itself keeps every run for good, about 1 MB for each."""

from collections.abc import Iterator
from pathlib import Path

import dagster as dg
from dagster._core.storage.event_log import SqliteEventLogStorage  # Dagster has no public name for it

from orchestration.config.settings import settings

_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def forget_old_runs(instance: dg.DagsterInstance) -> Iterator[str]:
    """Delete the oldest ended runs, with their events and logs; yields a line if there were any.

    The newest ``dagster_runs_kept`` stay, and whichever runs made the current state of an asset: without their events,
    it would count as never materialized.
    """
    old = instance.get_run_ids(dg.RunsFilter(statuses=_ENDED))[settings().dagster_runs_kept :]
    if not old:
        return
    forgotten = sorted({*old} - _current_runs(instance))
    for run_id in forgotten:
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        instance.delete_run(run_id)
        if isinstance(instance.event_log_storage, SqliteEventLogStorage):
            # Dagster empties the run's own database, whose file would keep its size.
            Path(instance.event_log_storage.path_for_shard(run_id)).unlink(missing_ok=True)
    if forgotten:
        yield f"{len(forgotten)} old runs are deleted: {settings().dagster_runs_kept} are kept (DAGSTER_RUNS_KEPT)"


def _current_runs(instance: dg.DagsterInstance) -> set[str]:
    """The runs that last materialized an asset's partition, or an asset without partitions."""
    found = set()
    for key in instance.all_asset_keys():
        by_partition = instance.event_log_storage.get_latest_storage_id_by_partition(
            key, dg.DagsterEventType.ASSET_MATERIALIZATION
        )
        ids = [*by_partition.values()]
        chosen = dg.AssetRecordsFilter(asset_key=key, storage_ids=ids)
        found |= {record.run_id for record in instance.fetch_materializations(chosen, limit=len(ids) or 1).records}
        if newest := instance.get_latest_materialization_event(key):
            found.add(newest.run_id)
    return found
