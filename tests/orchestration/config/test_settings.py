import sys
from pathlib import Path

import dagster as dg
import pytest
from dagster._cli.utils import get_possibly_temporary_instance_for_cli
from fsspec.registry import _registry
from upath import UPath

from ml.data.datasets import DEFAULT
from ml.errors import DataError
from orchestration.__main__ import main as command
from orchestration.config.data_sets import default_data_set, register, resolved_source
from orchestration.config.settings import PROJECT_ROOT, Settings
from orchestration.resources.raw_data import RawData
from orchestration.resources.storage import Storage
from orchestration.runtime.instance import ProjectInstance, use_instance
from tests.orchestration.conftest import environment


def test_defaults() -> None:
    with environment({}):
        settings = Settings()
    assert settings.movielens_dir == DEFAULT
    assert settings.movielens_cache == PROJECT_ROOT / "data"
    assert settings.home == UPath(PROJECT_ROOT / "var")
    assert settings.local_home == PROJECT_ROOT / "var"
    assert settings.instance_home == PROJECT_ROOT / "var" / "dagster"
    assert settings.mlflow_tracking_uri is None
    assert (settings.schedule_cron, settings.schedule_timezone) == ("0 3 * * *", "UTC")
    assert (settings.dagster_port, settings.mlflow_port) == (3000, 5000)


def test_relative_paths_count_from_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with environment({"PIPELINE_HOME": "elsewhere", "MOVIELENS_CACHE": "cache", "DAGSTER_HOME": "instance"}):
        settings = Settings()
    assert settings.home == UPath(PROJECT_ROOT / "elsewhere")
    assert settings.local_home == PROJECT_ROOT / "elsewhere"
    assert settings.movielens_cache == PROJECT_ROOT / "cache"
    assert settings.instance_home == PROJECT_ROOT / "instance"


def test_absolute_paths_are_kept(tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in ("PIPELINE_HOME", "MOVIELENS_CACHE", "DAGSTER_HOME")}
    with environment(paths):
        settings = Settings()
    assert Path(str(settings.home)) == settings.local_home == paths["PIPELINE_HOME"]
    assert settings.movielens_cache == paths["MOVIELENS_CACHE"]
    assert settings.instance_home == paths["DAGSTER_HOME"]


def test_names_of_the_environment() -> None:
    variables = {
        "MOVIELENS_DIR": "/data/films",
        "MLFLOW_TRACKING_URI": "http://tracking.example",
        "SCHEDULE_CRON": "1 2 * * *",
        "SCHEDULE_TIMEZONE": "Asia/Tokyo",
        "MLFLOW_YAML": "/data/mlflow.yaml",
        "RECIPES_YAML": "/data/recipes.yaml",
        "MONITORING_YAML": "/data/monitoring.yaml",
        "DAGSTER_PORT": "3333",
        "MLFLOW_PORT": "5555",
    }
    with environment(variables):
        settings = Settings()
    found = {name: str(getattr(settings, name.lower())) for name in variables}
    assert found == variables
    assert settings.model_fields_set == {name.lower() for name in variables}


def test_empty_variables_are_as_if_unset() -> None:
    with environment({"MOVIELENS_DIR": "", "PIPELINE_HOME": "", "MLFLOW_TRACKING_URI": ""}):
        settings = Settings()
    assert settings.model_fields_set == {"mlflow_yaml"}
    assert settings.movielens_dir == DEFAULT


@pytest.fixture
def env_file(tmp_path: Path, env: pytest.MonkeyPatch) -> Path:
    """The file ``.env``, to be written."""
    env.setitem(Settings.model_config, "env_file", tmp_path / ".env")
    return tmp_path / ".env"


def test_env_file_is_read_and_overridden(env_file: Path, env: pytest.MonkeyPatch) -> None:
    env_file.write_text("MOVIELENS_DIR=films\nDAGSTER_PORT=3333\nUNRELATED=1\n")
    env.setenv("DAGSTER_PORT", "4444")
    settings = Settings()
    assert settings.movielens_dir == "films"
    assert settings.dagster_port == 4444


def test_remote_home(env: pytest.MonkeyPatch, storage: Storage) -> None:
    env.setenv("PIPELINE_HOME", "memory://bucket/pipeline")
    settings = Settings()
    assert settings.home == UPath("memory://bucket/pipeline")
    assert settings.local_home == PROJECT_ROOT / "var"
    assert storage.tables == UPath("memory://bucket/pipeline/tables/synthetic-small")


def test_local_home_may_be_a_url(tmp_path: Path, env: pytest.MonkeyPatch) -> None:
    env.setenv("PIPELINE_HOME", (tmp_path / "home").as_uri())
    assert Settings().local_home == tmp_path / "home"
    assert Settings().home == UPath(tmp_path / "home")


@pytest.mark.parametrize("variable", ["", "films"])
def test_the_variable_chooses_the_default_data_set(variable: str, env: pytest.MonkeyPatch) -> None:
    env.setenv("MOVIELENS_DIR", variable)
    assert RawData.of("synthetic").source == resolved_source("synthetic")
    assert default_data_set() == (variable or DEFAULT)


def test_relative_source_counts_from_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert RawData.of(register("tests")).prepare() == PROJECT_ROOT / "tests"


@pytest.mark.parametrize("name", ["PIPELINE_HOME", "INCOMING_DIR", "DAGSTER_HOME", "MOVIELENS_CACHE", "RECIPES_YAML"])
def test_the_users_directory_is_expanded_where_no_shell_does(
    name: str, env_file: Path, tmp_path: Path, env: pytest.MonkeyPatch
) -> None:
    env_file.write_text(f"{name}=~/films\n")
    env.setenv("HOME", str(tmp_path))
    env.delenv(name, raising=False)
    settings = Settings()
    found = {
        "PIPELINE_HOME": Path(str(settings.home)),
        "INCOMING_DIR": settings.incoming,
        "DAGSTER_HOME": settings.instance_home,
        "MOVIELENS_CACHE": settings.movielens_cache,
        "RECIPES_YAML": settings.recipes_yaml,
    }[name]
    assert found == tmp_path / "films"


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("MLFLOW_PORT", "tcp://10.0.0.1:5000", "valid integer"),
        ("SERVE_PORT", "70000", "less than or equal to 65535"),
        ("DAGSTER_PORT", "0", "greater than or equal to 1"),
        ("SCHEDULE_TIMEZONE", "UTC+2", "such as UTC or Europe/Berlin"),
        ("PIPELINE_HOME", "/tmp/what?", "without '?'"),
    ],
)
def test_a_wrong_setting_is_told_in_one_line(
    name: str, value: str, expected: str, env: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    env.setenv(name, value)
    assert command(["run"]) == 1
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {name}={value!r}: ")
    assert expected in printed
    assert printed.count("\n") == 1


def test_an_unknown_command_is_told_with_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert command([]) == 1
    assert "expected one of run, paper" in capsys.readouterr().err


def test_instance_gets_the_projects_settings(tmp_path: Path, env: pytest.MonkeyPatch) -> None:
    env.setenv("DAGSTER_HOME", str(tmp_path / "instance"))
    assert use_instance() == tmp_path / "instance"
    settings = tmp_path / "instance" / "dagster.yaml"
    expected = (PROJECT_ROOT / "dagster.yaml").read_text()
    assert settings.read_text() == expected
    # Files of this project are brought up to date, those of earlier versions too.
    for first in ("# The project's Dagster instance", "# Settings of the Dagster instance; copied to its home by x"):
        settings.write_text(f"{first}\ntelemetry: {{enabled: true}}")
        use_instance()
        assert settings.read_text() == expected
    assert [path.name for path in settings.parent.iterdir()] == ["dagster.yaml"]


def test_an_instance_of_somebody_elses_is_left_alone(tmp_path: Path, env: pytest.MonkeyPatch) -> None:
    env.setenv("DAGSTER_HOME", str(tmp_path))
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: true}\n")
    with pytest.raises(DataError, match=r"dagster\.yaml: not written by this project.*set DAGSTER_HOME to another"):
        use_instance()
    assert (tmp_path / "dagster.yaml").read_text() == "telemetry: {enabled: true}\n"


def test_dagsters_own_commands_use_the_projects_home(tmp_path: Path, env: pytest.MonkeyPatch) -> None:
    env.chdir(PROJECT_ROOT)
    env.delenv("DAGSTER_HOME", raising=False)
    with get_possibly_temporary_instance_for_cli() as found:
        assert isinstance(found, ProjectInstance)
        assert not found.telemetry_enabled
        run = found.create_run_for_job(dg.GraphDefinition("nothing").to_job())
    env.setenv("DAGSTER_HOME", str(use_instance()))
    assert Settings().instance_home == tmp_path / "home" / "dagster"
    with dg.DagsterInstance.get() as made:
        assert made.get_run_by_id(run.run_id) is not None
    assert not list(PROJECT_ROOT.glob(".tmp_dagster_home_*"))


@pytest.mark.parametrize("home", ["http://host/home", "gs://bucket/home", "sftp://host/home", "nonsense://home"])
def test_a_home_that_two_writers_could_claim_is_refused(home: str, env: pytest.MonkeyPatch) -> None:
    env.setenv("PIPELINE_HOME", home)
    with pytest.raises(DataError, match=f"PIPELINE_HOME='{home}': expected a directory or s3://"):
        Settings()


def test_a_missing_driver_is_named_with_its_extra(env: pytest.MonkeyPatch) -> None:
    env.setenv("PIPELINE_HOME", "s3://bucket/home")
    env.setitem(sys.modules, "s3fs", None)
    env.delitem(_registry, "s3", raising=False)
    with pytest.raises(DataError, match=r"s3:// needs a driver .*\[s3\]"):
        Settings()


def test_local_files_of_a_home_in_a_store_may_be_elsewhere(env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env.setenv("PIPELINE_HOME", "memory://bucket/pipeline")
    env.setenv("PIPELINE_LOCAL_HOME", str(tmp_path))
    assert Settings().local_home == tmp_path
    env.setenv("PIPELINE_HOME", str(tmp_path / "home"))
    assert Settings().local_home == tmp_path / "home"


@pytest.mark.parametrize("url", ["mysql://me:hush@host/dagster", "postgresql://me:hush@host", "postgresql://[hush"])
def test_a_wrong_database_is_told_without_its_password(url: str, env: pytest.MonkeyPatch) -> None:
    env.setenv("DAGSTER_POSTGRES_URL", url)
    with pytest.raises(DataError, match=r"DAGSTER_POSTGRES_URL=\*\*\*: expected an address such as") as caught:
        Settings()
    assert "hush" not in str(caught.value)
