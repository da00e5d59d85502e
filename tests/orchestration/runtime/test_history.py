"""Test that the history of runs is bounded, and that nothing current is forgotten with it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orchestration.runtime.history import forget_old_runs
from tests.environment import Environment

PARTITIONS = dg.StaticPartitionsDefinition(["films", "plays"])


@dg.asset(partitions_def=PARTITIONS)
def raw() -> int:
    """Be materialized rarely."""
    return 1


class Fails(dg.Config):
    """Whether it does."""

    fails: bool = False


@dg.asset(partitions_def=PARTITIONS, check_specs=[dg.AssetCheckSpec("whole", asset="table")])
def table(config: Fails) -> Iterator[Any]:
    """Be materialized often, and checked unless it fails."""
    assert not config.fails
    yield dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True)])


@dg.asset(partitions_def=PARTITIONS)
def broken() -> int:
    """Fail."""
    raise AssertionError


@dg.asset
def plan() -> int:
    """Be materialized without a partition."""
    return 1


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with Environment.context() as patch:
        patch.setenv("DAGSTER_RUNS_KEPT", "2")
        with dg.DagsterInstance.local_temp(str(tmp_path)) as made:
            yield made


def run(
    instance: dg.DagsterInstance, asset: dg.AssetsDefinition, partition: str | None = None, fails: bool = False
) -> str:
    config = {"ops": {"table": {"config": {"fails": True}}}} if fails else None
    done = dg.materialize([asset], instance=instance, partition_key=partition, run_config=config, raise_on_error=False)
    assert done.success != fails
    return done.run_id


def test_old_runs_are_deleted_with_their_logs(instance: dg.DagsterInstance, tmp_path: Path) -> None:
    runs = [run(instance, table, "films") for _ in range(5)]
    instance.event_log_storage.delete_events(runs[0])  # as if the process had been killed in the middle of deleting it
    assert len([*(tmp_path / "history" / "runs").glob("*-*.db")]) == 5
    assert list(forget_old_runs(instance)) == ["3 old runs are deleted: 2 are kept (DAGSTER_RUNS_KEPT)"]
    assert instance.get_run_ids() == runs[:2:-1]
    assert {path.name for path in (tmp_path / "storage").glob("*-*")} <= {*runs[3:]}
    assert {path.stem for path in (tmp_path / "history" / "runs").glob("*-*.db")} == {*runs[3:]}
    assert list(forget_old_runs(instance)) == []


def test_runs_that_made_what_is_current_stay(instance: dg.DagsterInstance) -> None:
    first = [run(instance, raw, "films"), run(instance, raw, "plays"), run(instance, plan)]
    superseded = run(instance, table, "plays")
    newest = [run(instance, table, partition) for partition in ("plays", "films")]
    assert list(forget_old_runs(instance)) == ["1 old runs are deleted: 2 are kept (DAGSTER_RUNS_KEPT)"]
    assert superseded not in instance.get_run_ids()
    assert {*instance.get_run_ids()} == {*first, *newest}
    for key, partition in (("raw", "films"), ("raw", "plays"), ("table", "plays")):
        of = dg.AssetRecordsFilter(asset_key=dg.AssetKey(key), asset_partitions=[partition])
        assert instance.fetch_materializations(of, limit=1).records
    assert instance.get_latest_materialization_event(dg.AssetKey("plan"))


def test_a_run_in_progress_stays(instance: dg.DagsterInstance) -> None:
    job = dg.Definitions([table], jobs=[dg.define_asset_job("job")]).resolve_job_def("job")
    living = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    for _ in range(4):
        run(instance, table, "films")
    assert list(forget_old_runs(instance)) == ["2 old runs are deleted: 2 are kept (DAGSTER_RUNS_KEPT)"]
    assert instance.get_run_by_id(living.run_id)


def test_the_last_end_of_each_data_set_stays(instance: dg.DagsterInstance) -> None:
    failed = run(instance, table, "plays", fails=True)
    for _ in range(4):
        run(instance, table, "films")
    assert list(forget_old_runs(instance)) == ["2 old runs are deleted: 2 are kept (DAGSTER_RUNS_KEPT)"]
    assert failed in instance.get_run_ids()


def results(instance: dg.DagsterInstance) -> list[tuple[str, str]]:
    """The run and status of each execution of the check, the latest first."""
    check = dg.AssetCheckKey(dg.AssetKey("table"), "whole")
    history = instance.event_log_storage.get_asset_check_execution_history(check, limit=100)
    return [(each.run_id, each.status.value) for each in history]


def test_the_last_result_of_a_check_outlives_its_run(instance: dg.DagsterInstance) -> None:
    older, checked = (run(instance, table, "films") for _ in range(2))
    current = dg.AssetMaterialization("table", partition="films")
    instance.report_runless_asset_event(current)  # so that no run has to stay because of the asset
    failed = run(instance, table, "films", fails=True)  # its check is only planned
    assert results(instance) == [(failed, "PLANNED"), (checked, "SUCCEEDED"), (older, "SUCCEEDED")]
    others = [run(instance, raw, "films") for _ in range(2)]
    dg.materialize([broken], instance=instance, partition_key="films", raise_on_error=False)
    list(forget_old_runs(instance))
    assert {*instance.get_run_ids()} & {older, checked, failed, *others} == {others[1]}
    assert results(instance) == [(failed, "PLANNED"), (checked, "SUCCEEDED")]
