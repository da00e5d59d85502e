"""Bounds the history of runs: Dagster itself keeps every run for good, about 1 MB for each."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import sqlalchemy

# Dagster has no public API for these, and never deletes results of checks itself.
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable as Results

from orchestration.config.data_sets import PARTITION_TAG
from orchestration.config.settings import settings

_EVALUATED = ("SUCCEEDED", "FAILED")  # statuses of an evaluated check
_ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


def forget_old_runs(instance: dg.DagsterInstance) -> Iterator[str]:
    """Delete the oldest ended runs, with their events, logs and results of checks; yields a line if there were any.

    The newest ``dagster_runs_kept`` stay, and whichever runs made the current state of an asset: without their events,
    it would count as never materialized. So do the newest success and failure of each job on each data set, by which
    alerts and metrics know whether it has recovered. The last result of each check on each data set stays in any case.
    """
    ended, kept = dg.RunsFilter(statuses=_ENDED), settings().dagster_runs_kept
    runs = instance.get_runs(ended) if instance.get_runs_count(ended) > kept else []
    old = {run.run_id for run in runs[kept:]} - {*_newest_of_each(runs)}
    forgotten = sorted(old - _current_runs(instance)) if old else []
    if forgotten:
        _forget_results(instance, forgotten)
    for run_id in forgotten:
        _forget(instance, run_id)
    if forgotten:
        yield f"{len(forgotten)} old runs are deleted: {kept} are kept (DAGSTER_RUNS_KEPT)"


def _forget(instance: dg.DagsterInstance, run_id: str) -> None:
    """Delete a run, its record last: after a crash before that, the next run finds it and deletes what is left."""
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    instance.event_log_storage.delete_events(run_id)
    instance.delete_run(run_id)
    if isinstance(instance.event_log_storage, SqliteEventLogStorage):
        # Dagster empties the run's own database, whose file would keep its size.
        Path(instance.event_log_storage.path_for_shard(run_id)).unlink(missing_ok=True)


def _forget_results(instance: dg.DagsterInstance, run_ids: Sequence[str]) -> None:
    """Delete the runs' results of checks, except the last execution and the last result of each check and data set."""
    storage: Any = instance.event_log_storage  # SQLite or PostgreSQL
    rows = Results.c
    last = sqlalchemy.select(sqlalchemy.func.max(rows.id)).group_by(rows.asset_key, rows.check_name, rows.partition)
    kept = (last, last.where(rows.execution_status.in_(_EVALUATED)))
    old = Results.delete().where(rows.run_id.in_(run_ids), *(rows.id.not_in(ids) for ids in kept))
    with storage.index_connection() as connection:
        connection.execute(old)


def _newest_of_each(runs: Sequence[dg.DagsterRun]) -> Iterator[str]:
    """The newest run of each job, data set and status, of runs in descending order of time."""
    seen = set()
    for run in runs:
        kind = run.job_name, run.tags.get(PARTITION_TAG), run.status
        if kind not in seen:
            seen.add(kind)
            yield run.run_id


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
