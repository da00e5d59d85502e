"""Which data sets' assets are overdue, shown by their check on_time."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from orchestration.automation.deadlines import deadlines, report_lateness
from orchestration.config.data_sets import DATA_SETS, add_partition
from orchestration.config.monitoring_config import NightlyDeadline
from orchestration.reporting.check_results import on_time, on_time_spec
from orchestration.reporting.recorded_checks import last_result

IN_TIME = (True, dg.AssetCheckSeverity.ERROR)
RUN_PLAN, TABLES = "run_plan", "top10_recommendations"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    """In which films and shows were published just now."""
    with dg.DagsterInstance.ephemeral() as ephemeral:
        for data_set in ("films", "shows"):
            publish(ephemeral, data_set)
        yield ephemeral


@dg.asset(partitions_def=DATA_SETS, check_specs=[on_time_spec(RUN_PLAN, "In time.")])
def run_plan() -> Iterator[object]:
    yield on_time(RUN_PLAN)
    yield dg.MaterializeResult()


@dg.asset(partitions_def=DATA_SETS, check_specs=[on_time_spec(TABLES, "In time.")])
def top10_recommendations() -> Iterator[object]:
    yield on_time(TABLES)
    yield dg.MaterializeResult()


def publish(instance: dg.DagsterInstance, data_set: str) -> None:
    add_partition(instance, data_set)
    assert dg.materialize([run_plan, top10_recommendations], instance=instance, partition_key=data_set).success


def after(**duration: float) -> datetime:
    """A moment that long after the present."""
    return datetime.now(UTC) + timedelta(**duration)


def result(instance: dg.DagsterInstance, asset: str, data_set: str) -> tuple[bool, dg.AssetCheckSeverity]:
    found = last_result(instance, data_set, dg.AssetCheckKey(dg.AssetKey(asset), "on_time"))
    assert found
    return found.passed, found.severity


def test_each_data_set_has_deadlines_of_its_own(instance: dg.DagsterInstance) -> None:
    later = after(days=14, minutes=1)
    told = list(report_lateness(instance, "films", later))
    assert [text.split(": Overdue: last materialized on")[0] for text in told] == [
        "run_plan of films", "top10_recommendations of films"
    ]  # fmt: skip
    assert result(instance, RUN_PLAN, "films") == (False, dg.AssetCheckSeverity.ERROR)
    assert result(instance, TABLES, "films") == (False, dg.AssetCheckSeverity.WARN)
    assert result(instance, TABLES, "shows") == IN_TIME
    assert list(report_lateness(instance, "films", later)) == []  # once is enough
    [text] = report_lateness(instance, "films", later + timedelta(days=16))
    assert text.startswith("top10_recommendations of films: Overdue")
    assert result(instance, TABLES, "films") == (False, dg.AssetCheckSeverity.ERROR)


def test_a_materialization_clears_it(instance: dg.DagsterInstance) -> None:
    assert len(list(report_lateness(instance, "films", after(days=30, minutes=1)))) == 2
    publish(instance, "films")
    assert result(instance, TABLES, "films") == IN_TIME


def test_so_does_a_later_deadline(instance: dg.DagsterInstance) -> None:
    assert len(list(report_lateness(instance, "films", after(days=30, minutes=1)))) == 2
    assert set(report_lateness(instance, "films", after(minutes=1))) == {
        "run_plan of films: In time.",
        "top10_recommendations of films: In time.",
    }


def test_what_was_never_materialized_has_no_deadline(instance: dg.DagsterInstance) -> None:
    assert list(report_lateness(instance, "songs", after(days=99))) == []


def test_the_sensor_looks_at_what_the_schedule_runs(instance: dg.DagsterInstance, env: pytest.MonkeyPatch) -> None:
    with dg.build_sensor_context(instance) as context:
        assert deadlines(context) == dg.SkipReason("Nothing has become overdue")
        assert result(instance, RUN_PLAN, "films") == IN_TIME
        env.setattr("orchestration.automation.deadlines.scheduled_data_sets", lambda: ("films", "songs"))
        env.setattr(NightlyDeadline, "lateness", lambda *_: dg.AssetCheckSeverity.ERROR)
        assert str(deadlines(context).skip_message).startswith("run_plan of films: Overdue")
    assert result(instance, RUN_PLAN, "films") == (False, dg.AssetCheckSeverity.ERROR)
    assert result(instance, RUN_PLAN, "shows") == IN_TIME
