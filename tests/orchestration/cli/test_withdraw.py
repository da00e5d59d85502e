"""A wrong batch, undone: all tables are again as if it had never come."""

from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from ml.data.synthetic import SMALL, write_synthetic
from orchestration.__main__ import main
from orchestration.assets.ingestion import BATCHES
from orchestration.automation.staleness import Planner
from orchestration.config import locks
from orchestration.config.data_sets import register
from orchestration.definitions import build_definitions
from orchestration.resources.raw_data import RawData
from tests.orchestration.conftest import run_job
from tests.soak.test_arrivals import TABLES

NAME = "films"


@pytest.fixture
def data(env: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home without results, in the environment, and its raw files."""
    env.setenv("PIPELINE_HOME", str(tmp_path / "home"))
    write_synthetic(tmp_path / NAME, SMALL, seed=42)
    return tmp_path / NAME


def night(instance: dg.DagsterInstance, data: Path) -> None:
    assert run_job(instance, {}, *TABLES, data_set=register(str(data))).success


def table(data: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(data.parent / "home" / "tables" / NAME / f"{name}.parquet")


def deliver(data: Path, name: str, line: str) -> None:
    folder = data.parent / "home" / "incoming" / NAME
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"{line}\n")


def test_a_wrong_delivery_is_undone(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        night(instance, data)
        before = {name: table(data, name) for name in ("users", "movies", "ratings")}
        user, movie = before["ratings"].iloc[0][["user_id", "movie_id"]]
        deliver(data, "ratings-2020-05-01.dat", f"{user}::{movie}::1::1588291200")  # meant for 2002
        night(instance, data)
        assert table(data, "ratings")["rating_year"].max() == 2020
        assert main(["withdraw"]) == 0
        assert capsys.readouterr().out == "     1  ingestion    1  ratings  2020-05-01          1 rows\n"
        assert main(["withdraw", "1"]) == 0
        assert "make run RETRAIN=1" in capsys.readouterr().out
        planner = Planner(instance, build_definitions().resolve_asset_graph(), RawData.of(register(str(data))))
        up_to_tables = dg.AssetSelection.assets("interactions").upstream().required_multi_asset_neighbors()
        assert planner.plan(up_to_tables).reasons[BATCHES] == "files were ingested or withdrawn since"
        night(instance, data)
        for name, expected in before.items():
            pd.testing.assert_frame_equal(table(data, name), expected)
        assert main(["withdraw"]) == 0
        assert capsys.readouterr().out.endswith("1 rows  withdrawn\n")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["1"], "DATASET=''; expected one of none: nothing was ingested"),
        (["1", "../films"], "DATASET='../films'; expected"),
    ],
)
def test_nothing_to_withdraw(data: Path, arguments: list[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["withdraw", *arguments]) == 1
    assert text in capsys.readouterr().err


def test_wrong_numbers_and_a_run_at_work_are_told(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data.parent / "home" / "received" / NAME).mkdir(parents=True)
    register(str(data))
    assert main(["withdraw"]) == 0
    assert capsys.readouterr().out == "nothing was ingested\n"
    for number in ("x", "-1", "²"):
        assert main(["withdraw", number]) == 1
        assert f"BATCH={number!r}; expected a number" in capsys.readouterr().err
    with locks.step():
        assert main(["withdraw", "1"]) == 1
    assert "a run is in progress" in capsys.readouterr().err
