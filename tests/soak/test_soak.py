"""Test one night of the soak test, and that its checks find violations."""

import json
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest

from tests.orchestration.conftest import environment
from tests.soak import arrivals, invariants
from tests.soak.faults import KINDS, kill_step, steps
from tests.soak.home import NIGHT_SECONDS, Home
from tests.soak.plan import Planned, plan
from tests.soak.report import write_report
from tests.soak.server_faults import NIGHTS
from tests.soak.year import Soak
from tests.waiting import until


@pytest.fixture(scope="module")
def soak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Soak]:
    """Simulate a first night in which a training is killed."""
    with environment({}) as patch:
        patch.delenv("MLFLOW_YAML")
        spent = Soak(tmp_path_factory.mktemp("soak"), lambda text: None, models=["autoint"])
        spent.night(Planned("kill_step", kill_step("autoint")))
        yield spent
        spent.close()


@pytest.mark.slow
def test_nights_with_faults_lose_nothing(soak: Soak, tmp_path: Path) -> None:
    assert soak.violations == []
    write_report(tmp_path / "bench" / "soak.json", soak.report())
    assert json.loads((tmp_path / "bench" / "soak.json").read_text()) == {
        "nights": 1, "faults": {"kill_step": 1}, "arrivals": {"usual": 1}, "ratings": {"ingested": 40, "counted": 40},
        "violations": [], "repeated": [], "measures": [], "longest_run": 1,
    }  # fmt: skip


@pytest.mark.slow
def test_a_night_without_changes_rebuilds_nothing(soak: Soak) -> None:
    home = soak.home
    before = {path: path.stat().st_mtime_ns for path in home.tables.iterdir()}
    assert home.run() == 0
    assert {path: path.stat().st_mtime_ns for path in home.tables.iterdir()} == before
    assert invariants.versions(home) == {"autoint": 1}
    with home.instance() as instance:
        [run] = instance.get_runs(limit=1)
        assert run.asset_selection
        assert {key.to_user_string() for key in run.asset_selection} == {"run_plan"}
        summary = instance.get_latest_materialization_event(next(iter(run.asset_selection)))
    assert summary
    assert summary.asset_materialization
    text = str(summary.asset_materialization.metadata["summary"].value)
    assert text.startswith("Nothing has changed: all ")


def spoiled(soak: Soak, folder: Path) -> Home:
    """Return a copy of the home to damage."""
    shutil.copytree(soak.home.folder.parent, folder / "copy")
    return Home(folder / "copy", soak.home.models)


@pytest.mark.slow
def test_damaged_and_mixed_tables_are_found(soak: Soak, tmp_path: Path) -> None:
    home = spoiled(soak, tmp_path)
    path = home.tables / "top10_autoint.parquet"
    table = pd.read_parquet(path)
    table.loc[:99, "model_version"] = "2"
    table.iloc[:-1].to_parquet(path)
    (home.tables / "users.parquet").write_bytes(b"PAR1")
    (home.tables / ".movies.parquet.0").write_bytes(b"")
    found = " | ".join([*invariants.whole_tables(home), *invariants.nothing_left_running(home)])
    for text in ("has versions", "lacks lists", "users.parquet cannot be read", ".movies.parquet.0 is left"):
        assert text in found


@pytest.mark.slow
def test_other_tables_and_champions_are_found(soak: Soak, tmp_path: Path) -> None:
    home = spoiled(soak, tmp_path)
    path = home.tables / "top10_autoint.parquet"
    table = pd.read_parquet(path)
    table["model_version"] = "2"
    table["movie_id"] = np.roll(table["movie_id"], 1)
    table.to_parquet(path)
    assert "autoint: the exported table is not that of version 1" in invariants.one_champion(home)
    assert any(text.startswith("top10_autoint") for text in invariants.same_tables(home, soak.undisturbed))
    assert list(invariants.same_tables(soak.home, soak.undisturbed)) == []
    assert list(invariants.no_twins(home, {"autoint": 1}, 1, 2)) == [
        "autoint: version 1 after version 1, expected 1 to 2 more"
    ]
    (home.folder / "locks" / "run-1").touch()
    assert list(invariants.nothing_left_over(home)) == ["locks/run-1 is left"]


@pytest.mark.slow
def test_what_is_left_of_a_deleted_run_is_found(soak: Soak, tmp_path: Path) -> None:
    home = spoiled(soak, tmp_path)
    with closing(sqlite3.connect(home.folder / "mlflow.db")) as database, database:
        [(run,)] = database.execute("SELECT run_uuid FROM runs WHERE status = 'FINISHED'").fetchall()
        [(model,)] = database.execute("SELECT model_id FROM logged_models").fetchall()
        database.execute("UPDATE runs SET lifecycle_stage = 'deleted' WHERE run_uuid = ?", (run,))
    for folder in ("1", "models/m-1"):
        (home.folder / "mlflow-artifacts" / "films" / folder).mkdir()
    assert list(invariants.nothing_left_over(home)) == [
        f"{run} of runs is only marked as deleted",
        "mlflow-artifacts/films/1 is left of a deleted run or model",
        "mlflow-artifacts/films/models/m-1 is left of a deleted run or model",
    ]
    assert (home.folder / "mlflow-artifacts" / "films" / "models" / model).is_dir()


def test_growth_is_found() -> None:
    nights = [{"night": night, "disk_mib": 100.0 + night % 7, "answers": night} for night in range(1, 100)]
    assert list(invariants.bounded(nights)) == []
    assert list(invariants.bounded([*nights, {"night": 100, "disk_mib": 160}])) == [
        "disk_mib is 160, expected at most 159"
    ]
    assert list(invariants.bounded([{"night": 20, "disk_mib": 1.0}, {"night": 100, "disk_mib": 160}])) == []


def test_all_kinds_of_faults_come_and_every_step_is_killed() -> None:
    models = ("autoint",)
    planned = plan(365, models)
    counts = Counter(night.kind for night in planned if night.is_followed)
    assert set(counts) == {"kill_step", *KINDS, *NIGHTS}
    assert min(counts.values()) >= 4
    killed = Counter(night.fault for night in planned if night.kind == "kill_step")
    assert len(killed) == 1 + len(steps(models))
    assert sorted(killed.values())[1] >= 5  # the first step has only the first night
    assert {night.arrival for night in planned} == set(arrivals.KINDS)
    assert "empty" not in {night.arrival for night in planned if night.kind == "kill_step"}
    waited = [night.arrival for night in planned if not night.is_followed or night.kind == "delivery_during_run"]
    assert waited
    assert not {"late", "bad", "duplicate", "out_of_order"} & {*waited}
    assert plan(100, models) == planned[:100]
    assert plan(100, models, seed=2) != planned[:100]


@pytest.mark.slow
def test_a_warm_run_can_be_killed_with_its_steps_and_is_completed_by_the_next(tmp_path: Path) -> None:
    home = Home(tmp_path, ["autoint"], is_warm=True)
    try:
        with home.start() as process:
            pid = home.step_process("users", process, 0)
        assert process.poll() == -signal.SIGKILL
        assert pid
        until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
        assert not (home.tables / "top10_autoint.parquet").exists()
        with home.start() as process:
            home.train(home.models)  # its run goes on, though the next one will not fork from the same process
            assert process.wait(NIGHT_SECONDS) == 0
        assert list(invariants.whole_tables(home)) == []
        assert list(invariants.one_champion(home)) == []
    finally:
        home.cool()
