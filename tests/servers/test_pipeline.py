"""The small job against PostgreSQL, MLflow over HTTP with users, and a home in a store of objects.

The tests depend on each other: each goes on with the home that the one before it has left.
"""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pandas as pd
import pytest
import yaml
from upath import UPath

from ml.published.champions import ModelArchive
from ml.published.recommendations import get_recommendations
from orchestration.config.settings import PROJECT_ROOT
from tests.servers import job
from tests.servers.processes import BUCKET, HOST, PASSWORD, Servers, graphql, rows, started
from tests.waiting import free_port, until

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("servers")]
SECONDS = 300
HOME = f"s3://{BUCKET}/home"


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("raw")


@pytest.fixture(scope="module")
def env(made: Servers, raw: Path) -> dict[str, str]:
    return job.variables(made.environment(HOME), raw)


@pytest.fixture
def home(made: Servers, monkeypatch: pytest.MonkeyPatch) -> UPath:
    """The home, for readers in this process."""
    for name, value in made.s3.items():
        monkeypatch.setenv(name, value)
    return UPath(HOME)


def test_the_tables_are_those_of_a_local_run(
    env: dict[str, str], home: UPath, raw: Path, tmp_path: Path, made: Servers
) -> None:
    printed = job.done(env, "run", "random")
    assert f"{HOME}/tables/" in printed
    assert not list((made.folder / "local").rglob("*.db"))  # nothing is in SQLite
    assert PASSWORD not in printed
    local = job.variables({"PIPELINE_HOME": str(tmp_path / "home")}, raw)
    job.done(local, "run", "random")
    here, there = job.lists(UPath(tmp_path / "home")), job.lists(home)
    assert here.keys() == there.keys() == {*job.MODELS}
    for model, table in there.items():
        pd.testing.assert_frame_equal(table, here[model])


def test_readers_follow_the_pointer(env: dict[str, str], home: UPath) -> None:
    table = job.lists(home)["autoint"]
    user, year, month = (int(table[name].iloc[0]) for name in ("user_id", "rating_year", "rating_month"))
    movies = table.loc[table["user_id"] == user, "movie_id"].tolist()
    assert get_recommendations(user, year, month, "autoint", home=HOME)["movie_id"].tolist() == movies
    port, config = free_port(), Path(env["PIPELINE_LOCAL_HOME"]) / "serving.yaml"
    own = yaml.safe_load((PROJECT_ROOT / "serving.yaml").read_text(encoding="utf-8"))
    # The project's experiment has other models.
    config.write_text(yaml.safe_dump({**own, "refresh_seconds": 2, "experiment": None}), encoding="utf-8")
    serving = {**env, "SERVE_PORT": str(port), "SERVING_YAML": str(config)}
    log = Path(env["PIPELINE_LOCAL_HOME"]) / "service.log"
    with started([sys.executable, "-m", "app.service"], log, port, serving):
        until(lambda: answer(port, "/readyz") == 200, SECONDS)
        found = read(port, f"/users/{user}/recommendations?model=autoint")
        assert [item["movie_id"] for item in found["items"]] == movies
        assert found["model_version"] == "1"
        # A process that has served the first version for a while sees the next ones.
        job.done(env, "run", "random", "--retrain")
        assert job.champions(home)["autoint"] == "2"
        until(lambda: read(port, f"/users/{user}/recommendations?model=autoint")["model_version"] == "2", SECONDS)
        job.done(env, "rollback", "autoint", "1")
        assert job.champions(home)["autoint"] == "1"
        until(lambda: read(port, f"/users/{user}/recommendations?model=autoint")["model_version"] == "1", SECONDS)


def test_what_is_published_is_named_after_its_content(home: UPath) -> None:
    archive = ModelArchive(home, job.DATA_SET, "autoint")
    assert archive.versions() == ["1", "2"]
    pointer = json.loads(archive.pointer.read_bytes())
    assert pointer["champions"] == ["2", "1"]
    for number, names in pointer["files"].items():
        assert {path.name for path in (archive.folder / number).iterdir()} >= {*names.values()}
    assert not [path for path in home.rglob("*") if path.name.startswith(".")]  # no temporary names


def test_a_killed_run_is_completed_by_the_next_one(env: dict[str, str], home: UPath, made: Servers) -> None:
    killed = subprocess.Popen(
        job.command("run", "random", "--retrain"),
        env=env,
        cwd=PROJECT_ROOT,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert killed.stdout
    for line in killed.stdout:
        if "autoint: epoch 1 of 3" in line:
            os.killpg(killed.pid, signal.SIGKILL)
            break
    assert killed.wait(60) != 0
    before = job.lists(home)
    printed = job.done(env, "run", "random", "--retrain")
    assert "is marked as failed: its process is gone" in printed
    assert statuses(made) == {"FAILURE": 1, "SUCCESS": 3}
    assert running(made) == 0
    # Trained again after the rollback, from the same rows and seed: the same lists.
    for model, table in job.lists(home).items():
        pd.testing.assert_frame_equal(table, before[model])


def test_another_checkout_is_refused(env: dict[str, str], made: Servers) -> None:
    other = {**env, "PIPELINE_LOCAL_HOME": str(made.folder / "other")}
    for command in (("run", "random"), ("rollback", "autoint", "2"), ("instance",)):
        run = job.ended(other, *command)
        assert run.returncode == 1
        assert "the writer of this home is the checkout" in run.stdout + run.stderr


def test_a_wrong_password_is_told_without_it(env: dict[str, str]) -> None:
    run = job.ended({**env, "MLFLOW_TRACKING_PASSWORD": "not this one"}, "instance")
    assert run.returncode == 1
    [line] = [line for line in run.stderr.splitlines() if line.startswith("error:")]
    assert "does not accept the user 'admin'" in line
    assert "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in line
    assert "not this one" not in run.stdout + run.stderr


def test_a_run_of_the_daemon_is_executed_by_the_code_server(env: dict[str, str], made: Servers) -> None:
    dagster_home = job.done(env, "instance").strip()
    code, web = free_port(), free_port()
    own = {**env, "DAGSTER_HOME": dagster_home, "DAGSTER_CODE_HOST": HOST, "DAGSTER_CODE_PORT": str(code)}
    workspace = ["--workspace", "deploy/workspace.yaml"]
    load = ["--host", HOST, "--port", str(code), "--module-name", "orchestration.definitions"]
    server = ["code-server", "start", *load, "--location-name", "movie_recommender"]
    dagster = [sys.executable, "-m", "dagster"]
    with (
        started([*dagster, *server], made.folder / "code.log", code, own),
        started([sys.executable, "-m", "dagster_webserver", "--port", str(web), *workspace], web_log(made), web, own),
        started([sys.executable, "-m", "dagster._daemon", "run", *workspace], made.folder / "daemon.log", web, own),
    ):
        before = statuses(made).get("SUCCESS", 0)
        launched = graphql(web, LAUNCH, {"params": launch_parameters()})["launchRun"]
        assert launched["__typename"] == "LaunchRunSuccess", launched
        until(lambda: statuses(made).get("SUCCESS", 0) == before + 1, SECONDS)


def test_a_backup_is_restored_and_nothing_is_stale(
    env: dict[str, str], raw: Path, made: Servers, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from tests.servers.backup import backed_up, restored

    folder = tmp_path_factory.mktemp("backup")
    job.done(env, "run", "random")
    backed_up(made, folder)
    with restored(folder, tmp_path_factory.mktemp("restored")) as new:
        printed = job.done(job.variables(new.environment(HOME), raw), "run", "random")
        assert "Nothing has changed: all" in printed


LAUNCH = """
mutation Launch($params: ExecutionParams!) {
  launchRun(executionParams: $params) { __typename ... on PythonError { message } }
}
"""


def launch_parameters() -> dict[str, object]:
    """One asset of the data set, as *Materialize* in the UI launches it."""
    selector = {
        "repositoryLocationName": "movie_recommender",
        "repositoryName": "__repository__",
        "pipelineName": "__ASSET_JOB",
        "assetSelection": [{"path": ["data_report"]}],
    }
    tags = [{"key": "dagster/partition", "value": job.DATA_SET}]
    return {"selector": selector, "runConfigData": {}, "mode": "default", "executionMetadata": {"tags": tags}}


def web_log(made: Servers) -> Path:
    return made.folder / "webserver.log"


def statuses(made: Servers) -> dict[str, int]:
    """How many runs of Dagster have each status, in PostgreSQL."""
    query = "SELECT status, count(*) FROM runs GROUP BY status"
    return {str(status): int(count) for status, count in rows(made, "dagster", query)}


def running(made: Servers) -> int:
    """How many runs of MLflow are marked as running, in PostgreSQL."""
    [(count,)] = rows(made, "mlflow", "SELECT count(*) FROM runs WHERE status = 'RUNNING'")
    return int(count)


def answer(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def read(port: int, path: str) -> dict[str, list[dict[str, int]]]:
    with urllib.request.urlopen(f"http://{HOST}:{port}{path}", timeout=30) as response:
        found: dict[str, list[dict[str, int]]] = json.load(response)
    return found
