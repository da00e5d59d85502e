import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, tzinfo
from pathlib import Path

import dagster as dg
import pytest

from orchestration.config import locks
from orchestration.config.settings import PROJECT_ROOT, Settings
from orchestration.resources.raw_data import RawData
from orchestration.runtime import cleanup
from orchestration.runtime.cleanup import (
    clean_up,
    fail_crashed_runs,
    free_pool_slots,
    remove_checkpoints,
    remove_earlier_copies,
    remove_locks,
    remove_temporary_files,
)

OTHER = "8d5f0b3e-1f3a-4c35-9c3b-2f1d8a7e6b54"
HOLD = """
import sys, time
from orchestration.config import locks

what, run_id = sys.argv[1:]
with locks.living(run_id), (locks.step() if what == "step" else locks.turn()) as turn:
    for _ in turn or ():
        time.sleep(0.01)
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(request: pytest.FixtureRequest) -> Iterator["subprocess.Popen[str]"]:
    """A process that is a run at work, or a step of one."""
    command = [sys.executable, "-c", HOLD, request.param, OTHER]
    process = subprocess.Popen(command, cwd=PROJECT_ROOT, env=dict(os.environ), stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("holder", ["run", "step"], indirect=True)
def test_a_run_waits_for_others_and_their_steps_until_they_end(holder: "subprocess.Popen[str]") -> None:
    polls = 0
    with locks.turn() as turn:
        for _ in turn:
            polls += 1
            if polls == 3:
                holder.send_signal(signal.SIGKILL)  # the lock goes with its holder, however that ends
                holder.wait()
    assert polls == 3


def test_a_step_of_the_pipeline_holds_the_next_run_up() -> None:
    waited: list[bool] = []

    @dg.asset
    def watched(raw_data: RawData) -> None:
        with locks.turn() as turn:
            waited.append(next(turn, "at once") is None)

    assert dg.materialize([watched], resources={"raw_data": RawData()}).success
    assert waited == [True]
    with locks.turn() as turn:
        assert list(turn) == []


def test_a_run_alone_does_not_wait() -> None:
    for _ in range(2):
        with locks.turn() as turn:
            assert list(turn) == []


@pytest.mark.parametrize("holder", ["run"], indirect=True)
def test_a_killed_run_is_told_from_one_that_lives(holder: "subprocess.Popen[str]") -> None:
    assert locks.is_living(OTHER) is True
    holder.kill()
    holder.wait()
    assert locks.is_living(OTHER) is False
    with locks.living("mine"):
        assert locks.is_living("mine") is True
    assert locks.is_living("mine") is None


@pytest.mark.parametrize("holder", ["run"], indirect=True)
def test_runs_of_dead_processes_are_marked_as_failed(holder: "subprocess.Popen[str]") -> None:
    @dg.job
    def nothing() -> None:
        pass

    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(nothing, run_id=OTHER, status=dg.DagsterRunStatus.STARTED)
        assert list(fail_crashed_runs(instance)) == []
        holder.kill()
        holder.wait()
        assert list(fail_crashed_runs(instance, own_run_id=OTHER)) == []
        assert list(fail_crashed_runs(instance)) == [f"Run {run.run_id} is marked as failed: its process is gone"]
        found = instance.get_run_by_id(OTHER)
        assert found
        assert found.status is dg.DagsterRunStatus.FAILURE


def test_the_holder_of_the_turn_waits_less_for_runs_that_died_at_their_start(env: pytest.MonkeyPatch) -> None:
    @dg.job
    def nothing() -> None:
        pass

    with dg.DagsterInstance.ephemeral() as instance:
        dead = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED)
        own = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED)
        assert [*clean_up(instance, own.run_id), *fail_crashed_runs(instance)] == []  # it may not have its lock yet
        env.setattr(cleanup, "_STARTED_SECONDS_IN_TURN", -1)  # as after two seconds
        assert list(fail_crashed_runs(instance)) == []
        assert list(clean_up(instance, own.run_id)) == [f"Run {dead.run_id} is marked as failed: its process is gone"]


def test_a_run_that_is_about_to_end_is_not_marked_as_failed(env: pytest.MonkeyPatch) -> None:
    @dg.job
    def nothing() -> None:
        pass

    env.setattr(cleanup, "_STARTED_SECONDS_IN_TURN", -1)
    with dg.DagsterInstance.ephemeral() as instance:
        ending = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTED)
        # It has left its turn, and Dagster records its end while the next run cleans up.
        env.setattr(cleanup.time, "sleep", lambda _: instance.report_run_canceled(ending))
        assert list(clean_up(instance, "own")) == []
        found = instance.get_run_by_id(ending.run_id)
        assert found
        assert found.status is dg.DagsterRunStatus.CANCELED


@pytest.mark.parametrize("holder", ["run"], indirect=True)
@pytest.mark.parametrize("status", [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.STARTED])  # of an unrecorded end
def test_places_in_pools_are_freed_however_their_run_ended(
    tmp_path: Path, holder: "subprocess.Popen[str]", status: dg.DagsterRunStatus
) -> None:
    @dg.job
    def nothing() -> None:
        pass

    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        pool = instance.event_log_storage
        pool.set_concurrency_slots("training", 2)
        ended = instance.create_run_for_job(nothing, status=status)
        working = instance.create_run_for_job(nothing, run_id=OTHER, status=dg.DagsterRunStatus.STARTED)
        for run, step in ((ended, "autoint"), (working, "autoint"), (ended, "autoint_mlp"), (working, "autoint_mlp")):
            pool.claim_concurrency_slot("training", run.run_id, step)
        before = pool.get_concurrency_info("training")
        assert {slot.run_id for slot in before.claimed_slots} == {ended.run_id, working.run_id}
        assert list(free_pool_slots(instance, "own")) == [
            f"Run {ended.run_id} has ended: its slots in pools are free again"
        ]
        after = pool.get_concurrency_info("training")
        assert {slot.run_id for slot in after.claimed_slots} == {working.run_id}
        assert {step.run_id for step in after.pending_steps} == {working.run_id}
        assert pool.claim_concurrency_slot("training", working.run_id, "autoint_mlp").is_claimed
        assert list(free_pool_slots(instance, "own")) == []


def test_lock_files_of_runs_that_died_are_removed_and_no_others() -> None:
    @dg.job
    def nothing() -> None:
        pass

    folder = Settings().local_home / "locks"
    folder.mkdir(parents=True)
    with dg.DagsterInstance.ephemeral() as instance:
        statuses = (dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.NOT_STARTED)
        dead, beginning = (instance.create_run_for_job(nothing, status=status).run_id for status in statuses)
        for run_id in (dead, beginning, "of-another-instance"):
            (folder / f"run-{run_id}").touch()
        remove_locks(instance)
    assert {path.name for path in folder.iterdir()} == {f"run-{beginning}", "run-of-another-instance"}


@pytest.mark.parametrize(("of", "ends"), [("training", [""]), ("lists", ["", "_lists"])])
def test_states_of_work_that_no_recipe_asks_for_are_removed(of: str, ends: list[str]) -> None:
    folder = Settings().local_home / of / "films"
    for end in ends:
        for name in ("autoint", "renamed"):
            (folder / f"{name}{end}" / "0123456789abcdef").mkdir(parents=True)
    lines = {f"{folder / f'renamed{end}'} is removed: no enabled recipe has this name" for end in ends}
    assert set(remove_checkpoints()) == lines
    assert {path.name for path in folder.iterdir()} == {f"autoint{end}" for end in ends}


def test_unfinished_files_are_removed_and_no_others() -> None:
    tables = Settings().local_home / "tables" / "films"
    tables.mkdir(parents=True)
    names = [".users.parquet." + "0" * 32, "users.parquet", ".hidden", "users.parquet." + "0" * 32]
    for name in names:
        (tables / name).write_bytes(b"")
    assert list(remove_temporary_files()) == [f"{tables / names[0]} is removed: it is incomplete"]
    assert sorted(path.name for path in tables.iterdir()) == sorted(names[1:])
    assert Path(tables).is_dir()


def test_scratch_files_and_joined_tables_are_removed(env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env.setenv("PIPELINE_HOME", str(tmp_path))
    scratch, tables = tmp_path / "scratch" / "tmpabc", tmp_path / "tables" / "films"
    for folder in (scratch, tables):
        folder.mkdir(parents=True)
    for path in (scratch / "0.arrow", tables / "interactions.parquet", tables / "ratings.parquet"):
        path.write_text("x")
    assert list(remove_temporary_files()) == [f"{scratch} is removed: a step that crashed left it"]
    assert list(remove_earlier_copies()) == [f"{tables / 'interactions.parquet'} is removed: interactions is a view"]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["ratings.parquet"]
    assert [*remove_temporary_files(), *remove_earlier_copies()] == []


def test_a_launched_run_has_as_long_to_start_as_the_settings_give_it(env: pytest.MonkeyPatch) -> None:
    @dg.job
    def nothing() -> None:
        pass

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Later":
            return cls.fromtimestamp(time.time() + 300, tz)

    env.setattr(cleanup, "datetime", Later)
    env.setattr(cleanup, "_END_SECONDS", 0)
    with dg.DagsterInstance.ephemeral() as instance:
        run = instance.create_run_for_job(nothing, status=dg.DagsterRunStatus.STARTING)
        env.setenv("RUN_START_SECONDS", "900")
        assert list(fail_crashed_runs(instance)) == []
        env.delenv("RUN_START_SECONDS")
        assert list(fail_crashed_runs(instance)) == [f"Run {run.run_id} is marked as failed: its process is gone"]
