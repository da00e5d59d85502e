"""The small job on a cluster of two nodes, beside the same job on this machine."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient
from upath import UPath

from ml.published.champions import ModelArchive
from orchestration.config.settings import PROJECT_ROOT
from tests.cluster.namespaces import Machines, machines
from tests.cluster.nodes import NOTICES, Cluster, cluster

pytestmark = pytest.mark.cluster

DATA_SET = "synthetic-small"
WITH_DROPOUT = "autoint_mlp"  # each worker drops other numbers
WITHOUT = ["autoint", "autoint_collaborative", "autoint_catalogue"]
SECONDS = 900


def command(home: Path, **variables: str) -> tuple[list[str], dict[str, str]]:
    """The command `make try`, in a home."""
    try_it = {"RECIPES_YAML": "docs/try/recipes.yaml", "MLFLOW_YAML": "docs/try/mlflow.yaml"}
    own = {"MOVIELENS_DIR": DATA_SET, "PIPELINE_HOME": str(home), "MOVIELENS_CACHE": str(home / "raw")}
    return [sys.executable, "-m", "orchestration", "run", "random"], {**os.environ, **try_it, **own, **variables}


def on_cluster(nodes: Cluster | Machines, folder: Path) -> dict[str, str]:
    """Settings with which a job computes on a cluster."""
    path = folder / "compute.yaml"
    path.write_text(f"compute: local\naddress: {nodes.address}\nworkers: 2\nscores_from: 0\n")
    return {"COMPUTE": "ray", "COMPUTE_YAML": str(path)}


def finished(home: Path, **variables: str) -> str:
    """Run the job to its end; return what it printed."""
    arguments, environment = command(home, **variables)
    run = subprocess.run(
        arguments, env=environment, cwd=PROJECT_ROOT, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert run.returncode == 0, run.stdout[-5000:]
    return run.stdout


def metrics(home: Path) -> pd.Series:
    table = pd.read_parquet(home / "tables" / DATA_SET / "evaluation.parquet")
    return table.set_index(["model", "metric"])["value"].sort_index()


def computed_by(home: Path) -> set[str]:
    """Where the registered versions were trained."""
    versions = MlflowClient(f"sqlite:///{home / 'mlflow.db'}").search_model_versions()
    return {version.tags["computed_by"] for version in versions}


def require_equal(found: Path, expected: Path) -> None:
    """Compare metrics and published tables, and how often each was published."""
    own, others = metrics(found), metrics(expected)
    assert own[WITH_DROPOUT, "auc"] == pytest.approx(others[WITH_DROPOUT, "auc"], abs=0.01)
    without = [each.drop(WITH_DROPOUT, level="model") for each in (own, others)]
    pd.testing.assert_series_equal(*without, rtol=0, atol=1e-4)
    for model in WITHOUT:
        tables = [
            pd.read_parquet(home / "tables" / DATA_SET / f"top10_{model}.parquet").drop(columns="score")
            for home in (found, expected)
        ]
        pd.testing.assert_frame_equal(*tables)
    for model in (WITH_DROPOUT, *WITHOUT):
        assert ModelArchive(UPath(found), DATA_SET, model).versions() == ["1"]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which the job has run on this machine."""
    home = tmp_path_factory.mktemp("here")
    finished(home)
    return home


def test_a_cluster_publishes_what_one_machine_publishes(here: Path, nodes: Cluster, tmp_path: Path) -> None:
    there = tmp_path / "there"
    finished(there, **on_cluster(nodes, tmp_path))
    require_equal(there, here)
    assert not list((there / "cluster").rglob("*.npz"))
    assert computed_by(here) == {"this machine"}
    assert computed_by(there) == {f"Ray cluster {nodes.address}: 2 workers of 1 CPUs"}


def test_a_run_whose_cluster_is_lost_is_completed_by_the_next_one(here: Path, tmp_path: Path) -> None:
    there = tmp_path / "there"
    with cluster() as lost:
        arguments, environment = command(there, **on_cluster(lost, tmp_path))
        run = subprocess.Popen(arguments, env=environment, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True)
        assert run.stdout
        for line in run.stdout:
            if "autoint: epoch 2 of 3" in line:
                lost.kill_head()
                break
        run.stdout.read()
        assert run.wait(timeout=SECONDS) != 0
    assert not (there / "tables" / DATA_SET / "top10_autoint.parquet").exists()
    with cluster() as new:
        printed = finished(there, **on_cluster(new, tmp_path))
    require_equal(there, here)
    assert "autoint: epoch 1 of 3" in printed


def test_a_run_goes_on_without_a_machine_that_is_disconnected(here: Path, tmp_path: Path) -> None:
    there, printed = tmp_path / "there", []
    with machines(NOTICES) as two:
        arguments, environment = command(there, **on_cluster(two, tmp_path))
        run = subprocess.Popen(
            two.on_first(arguments), env=environment, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True
        )
        assert run.stdout
        for line in run.stdout:
            printed.append(line)
            if "autoint: epoch 1 of 3" in line:
                two.disconnect()
        assert run.wait(timeout=SECONDS) == 0, "".join(printed)[-5000:]
    require_equal(there, here)
    finished_epochs = [line for line in printed if "autoint: epoch 1 of 3" in line and "val_loss" in line]
    assert len(finished_epochs) == 1  # progress within the epoch is told again after it was begun again
