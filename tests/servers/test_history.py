"""Test that the history of runs is bounded in PostgreSQL as it is in files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from orchestration.runtime.history import forget_old_runs
from orchestration.runtime.instance import use_instance
from tests.environment import Environment
from tests.servers.processes import Postgres

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("servers")]
PARTITIONS = dg.StaticPartitionsDefinition(["films", "plays"])


@dg.asset(partitions_def=PARTITIONS, check_specs=[dg.AssetCheckSpec("whole", asset="table")])
def table() -> Iterator[Any]:
    """Be materialized and checked."""
    yield dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True)])


@dg.asset(partitions_def=PARTITIONS)
def other() -> int:
    """Be materialized."""
    return 1


@pytest.fixture
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A server of its own: with so short a history, other tests' runs would be deleted."""
    folder = tmp_path_factory.mktemp("history")
    for path in (folder, *folder.parents[:2]):  # PostgreSQL's user has to reach its files
        path.chmod(0o755)
    with Postgres(folder / "postgres").serve() as served:
        yield served


@pytest.fixture
def instance(postgres: Postgres, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with Environment.context() as patch:
        patch.setenv("DAGSTER_HOME", str(tmp_path))
        patch.setenv("DAGSTER_POSTGRES_URL", postgres.url("dagster"))
        patch.setenv("DAGSTER_RUNS_KEPT", "2")
        use_instance()
        with dg.DagsterInstance.get() as made:
            yield made


def test_old_runs_are_deleted_from_the_database(instance: dg.DagsterInstance) -> None:
    def run(partition: str) -> str:
        return dg.materialize([table], instance=instance, partition_key=partition).run_id

    check = dg.AssetCheckKey(dg.AssetKey("table"), "whole")

    def checked() -> list[str]:
        history = instance.event_log_storage.get_asset_check_execution_history(check, limit=10)
        return [each.run_id for each in history]

    current, *runs = [run(partition) for partition in ("plays", "films", "films", "films", "films")]
    events = [instance.all_logs(run_id) for run_id in runs]
    assert all(events)
    assert list(forget_old_runs(instance)) == ["2 old runs are deleted: 2 are kept (DAGSTER_RUNS_KEPT)"]
    assert instance.get_run_ids() == [runs[3], runs[2], current]
    assert [len(instance.all_logs(run_id)) for run_id in runs] == [0, 0, len(events[2]), len(events[3])]
    assert checked() == [runs[3], runs[2], current]
    for partition, made_by in (("plays", current), ("films", runs[3])):
        of = dg.AssetRecordsFilter(asset_key=dg.AssetKey("table"), asset_partitions=[partition])
        assert instance.fetch_materializations(of, limit=1).records[0].run_id == made_by
    assert list(forget_old_runs(instance)) == []
    instance.report_runless_asset_event(dg.AssetMaterialization("table", partition="films"))
    for _ in range(2):
        dg.materialize([other], instance=instance, partition_key="films")
    list(forget_old_runs(instance))
    assert runs[3] not in instance.get_run_ids()
    assert checked() == [runs[3], current]  # the last result of a check outlives its run
