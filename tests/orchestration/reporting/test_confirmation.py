"""What a failed run has left red is green after a run that finds it up to date."""

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster import AssetCheckKey, AssetKey
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from orchestration.config.data_sets import DATA_SETS, add_partition
from orchestration.reporting.check_results import check_spec
from orchestration.reporting.confirmation import confirm

FIRST, SECOND = AssetKey("first"), AssetKey("second")
CHECK = AssetCheckKey(SECOND, "whole")
PARTITION, OTHER = "films", "shows"
fails, passes = False, True


@dg.asset(partitions_def=DATA_SETS)
def first() -> None:
    if fails:
        raise ValueError("the source is gone")


@dg.asset(
    partitions_def=DATA_SETS, deps=[first], check_specs=[check_spec("whole", "second", "Whole.")], code_version="7"
)
def second() -> Iterator[object]:
    yield dg.AssetCheckResult(passed=passes, check_name="whole", metadata={"rows": 3})
    yield dg.MaterializeResult(metadata={"rows": 3}, data_version=dg.DataVersion("abc"))


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """In which a good run was followed by one that failed at the first asset; and a good one of another data set."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        add_partition(ephemeral, PARTITION, OTHER)
        assert run(ephemeral)
        monkeypatch.setattr(f"{__name__}.fails", True)
        assert not run(ephemeral)
        monkeypatch.setattr(f"{__name__}.fails", False)
        assert run(ephemeral, OTHER)
        yield ephemeral


def run(instance: dg.DagsterInstance, partition: str = PARTITION) -> bool:
    assets = [first, second]
    return dg.materialize(assets, instance=instance, partition_key=partition, raise_on_error=False).success


def status(instance: dg.DagsterInstance, partition: str = PARTITION) -> AssetCheckExecutionRecordStatus:
    of_partition = PartitionKeyFilter(key=partition)
    return instance.event_log_storage.get_latest_asset_check_execution_by_key([CHECK], of_partition)[CHECK].status


def last(instance: dg.DagsterInstance, key: AssetKey) -> dg.EventLogRecord:
    of_partition = dg.AssetRecordsFilter(key, asset_partitions=[PARTITION])
    [record] = instance.fetch_materializations(of_partition, limit=1).records
    return record


def test_what_a_failed_run_did_not_reach_is_recorded_again(instance: dg.DagsterInstance) -> None:
    before = {key: last(instance, key) for key in (FIRST, SECOND)}
    assert status(instance) is AssetCheckExecutionRecordStatus.PLANNED
    assert confirm(instance, PARTITION, [FIRST, SECOND], [CHECK]) == ["first", "second"]
    assert status(instance) is AssetCheckExecutionRecordStatus.SUCCEEDED
    for key, event in before.items():
        after = last(instance, key)
        assert after.asset_materialization == event.asset_materialization  # metadata, code and data versions
        assert after.timestamp > event.timestamp
    assert confirm(instance, PARTITION, [FIRST, SECOND], [CHECK]) == []  # once is enough


def test_what_is_green_is_left_alone(instance: dg.DagsterInstance) -> None:
    assert confirm(instance, OTHER, [FIRST, SECOND], [CHECK]) == []
    assert status(instance, OTHER) is AssetCheckExecutionRecordStatus.SUCCEEDED
    assert run(instance)
    assert confirm(instance, PARTITION, [FIRST, SECOND], [CHECK]) == []


def test_results_refer_to_what_was_recorded_again(instance: dg.DagsterInstance) -> None:
    confirm(instance, PARTITION, [FIRST, SECOND], [CHECK])
    [info] = instance.event_log_storage.get_asset_check_partition_info([CHECK], partition_keys=[PARTITION])
    assert info.latest_execution_status is AssetCheckExecutionRecordStatus.SUCCEEDED
    assert info.latest_target_materialization_storage_id == last(instance, SECOND).storage_id


def test_it_can_be_needed_again(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        assert confirm(instance, PARTITION, [FIRST, SECOND], [CHECK]) == ["first", "second"]
        monkeypatch.setattr(f"{__name__}.fails", True)
        assert not run(instance)
    assert status(instance) is AssetCheckExecutionRecordStatus.PLANNED


def test_a_check_that_did_not_pass_stays_so(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.passes", False)
    assert run(instance)
    monkeypatch.setattr(f"{__name__}.fails", True)
    assert not run(instance)
    confirm(instance, PARTITION, [FIRST, SECOND], [CHECK])
    assert status(instance) is AssetCheckExecutionRecordStatus.FAILED
