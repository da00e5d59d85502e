"""What a failed run has left red is green after a run that finds it up to date."""

from collections.abc import Iterator

import dagster as dg
import pytest
from dagster import AssetCheckKey, AssetKey
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus

from orchestration.reporting.confirmation import confirm

FIRST, SECOND = AssetKey("first"), AssetKey("second")
CHECK = AssetCheckKey(SECOND, "whole")
fails = False


@dg.asset
def first() -> None:
    if fails:
        raise ValueError("the source is gone")


@dg.asset(deps=[first], check_specs=[dg.AssetCheckSpec("whole", asset="second")], code_version="7")
def second() -> Iterator[object]:
    yield dg.AssetCheckResult(passed=True, check_name="whole", metadata={"rows": 3})
    yield dg.MaterializeResult(metadata={"rows": 3}, data_version=dg.DataVersion("abc"))


@pytest.fixture
def instance(monkeypatch: pytest.MonkeyPatch) -> Iterator[dg.DagsterInstance]:
    """In which a good run was followed by one that failed at the first asset."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        assert dg.materialize([first, second], instance=ephemeral).success
        monkeypatch.setattr(f"{__name__}.fails", True)
        assert not dg.materialize([first, second], instance=ephemeral, raise_on_error=False).success
        yield ephemeral


def status(instance: dg.DagsterInstance) -> AssetCheckExecutionRecordStatus:
    return instance.event_log_storage.get_latest_asset_check_execution_by_key([CHECK])[CHECK].status


def test_what_a_failed_run_did_not_reach_is_recorded_again(instance: dg.DagsterInstance) -> None:
    before = {key: instance.get_latest_materialization_event(key) for key in (FIRST, SECOND)}
    assert status(instance) is AssetCheckExecutionRecordStatus.PLANNED
    assert confirm(instance, [FIRST, SECOND], [CHECK]) == ["first", "second"]
    assert status(instance) is AssetCheckExecutionRecordStatus.SUCCEEDED
    for key, event in before.items():
        after = instance.get_latest_materialization_event(key)
        assert event
        assert after
        assert after.asset_materialization == event.asset_materialization  # metadata, code and data versions
        assert after.timestamp > event.timestamp
    assert confirm(instance, [FIRST, SECOND], [CHECK]) == []  # once is enough


def test_what_is_green_is_left_alone(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.fails", False)
    assert dg.materialize([first, second], instance=instance).success
    assert confirm(instance, [FIRST, SECOND], [CHECK]) == []


def test_a_check_that_did_not_pass_stays_so(instance: dg.DagsterInstance) -> None:
    evaluation = dg.AssetCheckEvaluation(SECOND, "whole", passed=False, metadata={})
    instance.report_runless_asset_event(evaluation)
    confirm(instance, [FIRST, SECOND], [CHECK])
    assert status(instance) is AssetCheckExecutionRecordStatus.FAILED
