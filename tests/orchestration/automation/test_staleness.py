"""What a run rebuilds, on a graph of three assets and on the pipeline's own."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from ml.errors import DataError
from orchestration.automation import staleness
from orchestration.automation.staleness import Plan, Planner
from orchestration.config.data_sets import DATA_SETS, add_partition, register
from orchestration.definitions import build_definitions
from orchestration.reporting.metadata import SETTINGS, SOURCE_FILE
from orchestration.resources.raw_data import RawData
from orchestration.resources.storage import Storage, TableIOManager
from orchestration.tracking.resource import Tracking
from tests.orchestration.conftest import DATASET, RUN_CONFIG, Pipeline, run_job
from tests.orchestration.recipes import MODELS

ALL = dg.AssetSelection.all()


class _Config(dg.Config):
    share: float = 0.5


def small_definitions(double_version: str = "1") -> dg.Definitions:
    """numbers, which are ratings.dat, then doubled, then halved by a setting."""

    @dg.asset(partitions_def=DATA_SETS, code_version="1", metadata={SOURCE_FILE: "ratings"})
    def numbers(raw_data: RawData) -> dg.MaterializeResult[Any]:
        digest = raw_data.digests(raw_data.prepare())["ratings"]
        return dg.MaterializeResult(
            value=pd.DataFrame({"a": [1.0, 2.0]}), data_version=dg.DataVersion(digest), metadata={SOURCE_FILE: digest}
        )

    @dg.asset(partitions_def=DATA_SETS, code_version=double_version)
    def doubled(numbers: pd.DataFrame) -> dg.MaterializeResult[Any]:
        return dg.MaterializeResult(value=numbers * 2)

    @dg.asset(partitions_def=DATA_SETS, code_version="1", metadata={SETTINGS: _Config().model_dump()})
    def halved(config: _Config, doubled: pd.DataFrame) -> dg.MaterializeResult[Any]:
        return dg.MaterializeResult(value=doubled * config.share, metadata={SETTINGS: config.model_dump()})

    raw_data = RawData()
    resources = {"raw_data": raw_data, "io_manager": TableIOManager(raw_data=raw_data)}
    return dg.Definitions([numbers, doubled, halved], resources=resources)


@pytest.fixture
def raw_data(small_raw_directory: Path, tmp_path: Path) -> RawData:
    shutil.copytree(small_raw_directory, tmp_path / "films")
    return RawData.of(register(str(tmp_path / "films")))


@pytest.fixture
def manifest() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def make(
    manifest: dg.DagsterInstance,
    raw_data: RawData,
    *assets: str,
    share: float | None = None,
    definitions: dg.Definitions | None = None,
) -> None:
    job = (definitions or small_definitions()).resolve_implicit_global_asset_job_def()
    config = {"ops": {"halved": {"config": {"share": share}}}} if share else None
    selection = [dg.AssetKey(asset) for asset in assets] or None
    add_partition(manifest, raw_data.dataset)
    assert job.execute_in_process(
        run_config=config, instance=manifest, asset_selection=selection, partition_key=raw_data.dataset
    ).success


def plan(manifest: dg.DagsterInstance, raw_data: RawData, definitions: dg.Definitions | None = None) -> Plan:
    graph = (definitions or small_definitions()).resolve_asset_graph()
    return Planner(manifest, graph, raw_data).plan(ALL)


def test_nothing_is_fresh_at_first(manifest: dg.DagsterInstance, raw_data: RawData) -> None:
    found = plan(manifest, raw_data)
    assert list(found.reasons) == ["numbers", "doubled", "halved"]
    assert set(found.reasons.values()) == {"never built"}
    assert found.up_to_date == ()
    assert [key.to_user_string() for key in found.selection] == ["run_plan", "numbers", "doubled", "halved"]


def test_nothing_is_made_again_without_a_change(manifest: dg.DagsterInstance, raw_data: RawData) -> None:
    make(manifest, raw_data)
    found = plan(manifest, raw_data)
    assert found.reasons == {}
    assert found.up_to_date == ("numbers", "doubled", "halved")
    assert [key.to_user_string() for key in found.selection] == ["run_plan"]
    assert found.ops == {
        "run_plan": {"config": {"reasons": {}, "up_to_date": ["numbers", "doubled", "halved"], "checks": {}}}
    }


def test_a_forced_asset_takes_those_after_it_along(manifest: dg.DagsterInstance, raw_data: RawData) -> None:
    make(manifest, raw_data)
    found = Planner(manifest, small_definitions().resolve_asset_graph(), raw_data).plan(ALL, forced=["doubled"])
    assert found.reasons == {"doubled": "requested", "halved": "doubled is rebuilt"}


def test_changed_raw_data_reaches_everything(manifest: dg.DagsterInstance, raw_data: RawData) -> None:
    make(manifest, raw_data)
    with (raw_data.prepare() / "ratings.dat").open("a") as ratings:
        ratings.write("1::1::5::978300760\n")
    assert plan(manifest, raw_data).reasons == {
        "numbers": "ratings.dat has changed",
        "doubled": "numbers is rebuilt",
        "halved": "doubled is rebuilt",
    }
    # A run that crashed after the first step: the next one continues after it.
    make(manifest, raw_data, "numbers")
    assert plan(manifest, raw_data).reasons == {"doubled": "numbers has changed", "halved": "doubled is rebuilt"}


def test_changed_code_reaches_what_comes_after(manifest: dg.DagsterInstance, raw_data: RawData) -> None:
    make(manifest, raw_data)
    found = plan(manifest, raw_data, small_definitions(double_version="2"))
    assert found.reasons == {"doubled": "its code or configuration has changed", "halved": "doubled is rebuilt"}
    assert found.up_to_date == ("numbers",)


def test_a_launch_with_other_settings_is_not_kept(manifest: dg.DagsterInstance, raw_data: RawData) -> None:
    make(manifest, raw_data, share=0.25)
    assert plan(manifest, raw_data).reasons == {"halved": "last built with other settings"}


@pytest.mark.parametrize(("data", "reason"), [(None, "is missing"), (b"PAR1", "has been changed since it was written")])
def test_files_that_are_gone_or_altered_are_made_again(
    manifest: dg.DagsterInstance, raw_data: RawData, data: bytes | None, reason: str
) -> None:
    make(manifest, raw_data)
    path = Storage(raw_data=raw_data).tables / "doubled.parquet"
    path.unlink() if data is None else path.write_bytes(data)
    assert plan(manifest, raw_data).reasons["doubled"] == f"doubled.parquet {reason}"


def test_data_sets_and_splits_have_histories_of_their_own(
    manifest: dg.DagsterInstance, raw_data: RawData, tmp_path: Path
) -> None:
    make(manifest, raw_data)
    shutil.copytree(raw_data.prepare(), tmp_path / "shows")
    with (tmp_path / "shows" / "ratings.dat").open("a") as ratings:
        ratings.write("1::1::5::978300760\n")
    shows, temporal = RawData.of(register(str(tmp_path / "shows"))), RawData.of("films+temporal")
    for other in (shows, temporal):
        assert set(plan(manifest, other).reasons.values()) == {"never built"}
        make(manifest, other)
        assert plan(manifest, other).reasons == {}
        assert plan(manifest, raw_data).reasons == {}  # no run makes another data set stale
    make(manifest, shows, share=0.25)
    assert plan(manifest, shows).reasons == {"halved": "last built with other settings"}
    assert plan(manifest, raw_data).reasons == plan(manifest, temporal).reasons == {}


def test_what_was_built_before_there_were_partitions_is_built_again(
    manifest: dg.DagsterInstance, raw_data: RawData
) -> None:
    for name in ("numbers", "doubled", "halved"):
        manifest.report_runless_asset_event(dg.AssetMaterialization(name, metadata={"stored": {"data_set": "films"}}))
    assert set(plan(manifest, raw_data).reasons.values()) == {"never built"}
    make(manifest, raw_data)
    assert plan(manifest, raw_data).reasons == {}


@pytest.mark.parametrize("made", [False, True])
def test_nothing_is_planned_without_the_raw_data(manifest: dg.DagsterInstance, raw_data: RawData, made: bool) -> None:
    if made:
        make(manifest, raw_data)
    (raw_data.prepare() / "movies.dat").unlink()
    with pytest.raises(DataError, match=r"films: lacks movies\.dat"):
        plan(manifest, raw_data)
    shutil.rmtree(raw_data.prepare())
    with pytest.raises(DataError, match="films: no such directory"):
        plan(manifest, raw_data)


def test_the_pipelines_own_assets(
    materialized: Pipeline, manifest: dg.DagsterInstance, env: pytest.MonkeyPatch, own_home: Path
) -> None:
    graph = build_definitions().resolve_asset_graph()
    to_models = dg.AssetSelection.groups("raw", "tables", "features", "models")
    names = sorted(key.to_user_string() for key in to_models.resolve(graph))
    run_job(manifest, RUN_CONFIG, *names)

    def planned() -> Plan:
        return Planner(manifest, graph, RawData.of(DATASET)).plan(to_models)

    assert planned().reasons == dict.fromkeys(MODELS, "last built with other settings")
    with env.context() as patch:
        patch.setattr(staleness, "SETTINGS", "none")
        assert planned().reasons == {}
        assert sorted(planned().up_to_date) == names
        tracking = Tracking(raw_data=RawData.of(DATASET))
        tracking.client.delete_experiment(tracking.experiment_id())
        assert planned().reasons == {}  # it is restored as soon as something is logged
        tracking.experiment_id()
        tracking.client.delete_model_version(f"{DATASET}-autoint", "1")
        tracking.client.delete_run(materialized.document("autoint_mlp")["run_id"])
        assert planned().reasons == {
            "autoint": "version 1 is not in the registry",
            "autoint_mlp": "the MLflow run of version 1 was deleted",
        }


def test_what_a_person_changed_of_the_champions(
    materialized: Pipeline, instance: dg.DagsterInstance, own_home: Path, tracking: Tracking
) -> None:
    planner = Planner(instance, build_definitions().resolve_asset_graph(), RawData.of(DATASET))

    def reasons(asset: str) -> list[str]:
        return list(planner._registry_reasons(asset))

    assert (reasons("promotion"), reasons("top10_recommendations")) == ([], [])
    tracking.client.delete_registered_model_alias(f"{DATASET}-autoint", "champion")
    told = "the alias of autoint's champion is missing; it is set to version 1, whose table is published"
    assert (reasons("promotion"), reasons("top10_recommendations")) == ([], [told])
    tracking.publication("autoint").sync()
    table = own_home / "archive" / DATASET / "autoint" / "1" / "top10.parquet"
    table.write_bytes(b"changed")  # which no digest of Dagster's records
    told = "top10_autoint.parquet is not the table of autoint's champion, version 1"
    assert reasons("top10_recommendations") == [told]
    table.unlink()
    told = f"{table.parent} lacks the table or the bundle of autoint's champion"
    assert reasons("top10_recommendations") == [told]
    tracking.client.delete_model_version(f"{DATASET}-autoint", "1")
    told = "version 1 of autoint, whose table is published, is not in the registry"
    assert (reasons("promotion"), reasons("top10_recommendations")) == ([told], [told])


@pytest.mark.parametrize("name", ["champions.json", "1/version.json"])
def test_what_no_run_can_repair_of_the_publication_stops_the_plan(
    instance: dg.DagsterInstance, own_home: Path, materialized: Pipeline, name: str
) -> None:
    path = own_home / "archive" / DATASET / "autoint" / name
    path.write_bytes(b"[" * 10**5)
    planner = Planner(instance, build_definitions().resolve_asset_graph(), RawData.of(DATASET))
    with pytest.raises(DataError, match=f"{path}: expected .* restore it from a backup, or "):
        list(planner._registry_reasons("promotion"))
