"""Test one night of the soak test, and that its checks find violations."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.orchestration.conftest import environment
from tests.soak import arrivals, invariants
from tests.soak.faults import KINDS, STEPS, kill_step
from tests.soak.home import Home
from tests.soak.nights import Soak, plan, write_report


@pytest.fixture(scope="module")
def soak(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Soak]:
    """Simulate a first night in which a training is killed."""
    with environment({}) as patch:
        patch.delenv("MLFLOW_YAML")
        spent = Soak(tmp_path_factory.mktemp("soak"), lambda text: None, models=["autoint"])
        spent.night("kill_step", kill_step("autoint"))
        yield spent


@pytest.mark.slow
def test_nights_with_faults_lose_nothing(soak: Soak, tmp_path: Path) -> None:
    assert soak.violations == []
    write_report(tmp_path / "bench" / "soak.json", soak.report())
    assert json.loads((tmp_path / "bench" / "soak.json").read_text()) == {
        "nights": 1, "faults": {"kill_step": 1}, "arrivals": {"usual": 1}, "ratings": {"ingested": 40, "counted": 40},
        "violations": [],
    }  # fmt: skip


@pytest.mark.slow
def test_a_night_without_changes_rebuilds_nothing(soak: Soak) -> None:
    home = soak.home
    before = {path: path.stat().st_mtime_ns for path in home.tables.iterdir()}
    assert home.run() == 0
    assert {path: path.stat().st_mtime_ns for path in home.tables.iterdir()} == before
    assert list(invariants.no_twins(home, nights=1)) == []
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
    assert list(invariants.no_twins(home, nights=2)) == ["autoint: version 1 after 2 nights with something new"]


def test_all_kinds_of_faults_come_and_every_step_is_killed() -> None:
    nights = 2 * (1 + len(STEPS))  # one step more in the first night
    planned = plan(nights)
    counts = Counter(kind for kind, *_ in planned)
    assert set(counts) == set(KINDS)
    assert counts["kill_step"] == 1 + len(STEPS)
    killed = [fault for kind, fault, _ in planned if kind == "kill_step"]
    assert {arrival for *_, arrival in planned} == set(arrivals.KINDS)
    assert "empty" not in {arrival for kind, _, arrival in planned if kind == "kill_step"}
    assert len(set(killed)) == 1 + len(STEPS)
    assert plan(nights)[1:] == planned[1:]
    assert plan(nights, seed=2)[1:] != planned[1:]
