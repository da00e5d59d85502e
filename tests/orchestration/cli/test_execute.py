"""What make run launches, without executing it."""

import shutil
import tomllib
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from ml.errors import DataError
from orchestration.__main__ import main as command
from orchestration.assets.monthly import MONTHLY_RECOMMENDATIONS, RANK_MONTHS
from orchestration.cli import execute, launch, ui
from orchestration.config.settings import PROJECT_ROOT
from orchestration.runtime import fork_server
from orchestration.runtime.instance import use_instance


@pytest.fixture
def launched(env: pytest.MonkeyPatch) -> list[dg.DagsterRun]:
    """Runs, in place of being executed."""
    runs: list[dg.DagsterRun] = []

    class Done:
        success = True

    def keep(job: Any, run: dg.DagsterRun, instance: dg.DagsterInstance) -> Done:
        runs.append(run)
        return Done()

    env.setattr(launch, "execute_run", keep)
    env.setattr(fork_server, "start", lambda: None)  # nothing will fork from it
    return runs


def test_a_run_is_one_of_the_code_location(launched: list[dg.DagsterRun], small_raw_directory: Path) -> None:
    assert execute.main(str(small_raw_directory), "random", "make run 1") == 0
    [run] = launched
    assert run.job_name == "recommender_pipeline"
    assert run.remote_job_origin
    assert run.remote_job_origin.location_name == "movie_recommender"
    assert run.tags[".dagster/repository"] == "__repository__@movie_recommender"
    assert run.tags["started_by"] == "make run 1"
    assert dg.AssetKey("top10_recommendations") in (run.asset_selection or ())
    use_instance()
    with dg.DagsterInstance.get() as instance:  # the UI's timeline and job pages filter by these
        found = instance.get_runs(dg.RunsFilter(tags={".dagster/repository": "__repository__@movie_recommender"}))
        offered = instance.get_dynamic_partitions("datasets")
    assert [each.run_id for each in found] == [run.run_id]
    assert offered == [run.tags["dagster/partition"]] == [small_raw_directory.name]


def test_a_split_is_a_partition_of_its_own(launched: list[dg.DagsterRun], small_raw_directory: Path) -> None:
    assert execute.main(str(small_raw_directory), "temporal", "tag") == 0
    [run] = launched
    assert run.job_name == "temporal_evaluation"
    assert run.tags["dagster/partition"] == f"{small_raw_directory.name}+temporal"


def test_a_second_directory_of_the_same_name_launches_nothing(
    launched: list[dg.DagsterRun], small_raw_directory: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert execute.main(str(small_raw_directory), "random", "tag") == 0
    other = tmp_path / "other" / small_raw_directory.name
    shutil.copytree(small_raw_directory, other)
    assert command(["execute", str(other), "random", "tag"]) == 1
    told = capsys.readouterr().err
    assert str(other) in told
    assert str(small_raw_directory) in told
    assert len(launched) == 1


def test_months_are_a_job_of_their_own(launched: list[dg.DagsterRun], small_raw_directory: Path) -> None:
    assert execute.main(str(small_raw_directory), "random", "tag", "--months", "2000-04", "2000-06") == 0
    [run] = launched
    assert run.job_name == MONTHLY_RECOMMENDATIONS
    assert run.run_config["ops"] == {RANK_MONTHS: {"config": {"first": "2000-04", "last": "2000-06"}}}


def test_everything_calls_the_code_location_the_same() -> None:
    workspace = yaml.safe_load((PROJECT_ROOT / "workspace.yaml").read_text())
    [of_workspace] = [entry["python_file"]["location_name"] for entry in workspace["load_from"]]
    of_commands = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["tool"]["dagster"]["code_location_name"]
    assert of_workspace == of_commands == launch.CODE_LOCATION


def test_a_second_ui_of_an_instance_names_the_first(env: pytest.MonkeyPatch) -> None:
    env.setenv("DAGSTER_PORT", "3111")
    with ui._alone():
        env.setenv("DAGSTER_PORT", "3222")
        with pytest.raises(DataError, match=r"running already.*http://127\.0\.0\.1:3111"), ui._alone():
            raise AssertionError("two at once")
    with ui._alone():
        pass
