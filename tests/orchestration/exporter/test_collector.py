"""What the exporter says of a home: of a finished run, of hand-made records, and of damaged files."""

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from dagster._daemon.types import DaemonHeartbeat

from ml.data.manifest import Manifest
from orchestration.config.data_sets import DATA_SETS, add_partition
from orchestration.definitions import build_definitions
from orchestration.exporter.catalog import CATALOG
from orchestration.exporter.collector import PipelineCollector
from orchestration.exporter.records import check_keys
from tests.orchestration.conftest import DATASET, Pipeline
from tests.orchestration.exporter.homes import HandMade, Scrape, add_run, scrape
from tests.orchestration.recipes import MODELS

STATUS = dg.DagsterRunStatus
GATES = {"not_below_champion", "not_below_movie_mean", "calibrated"}
METADATA: dict[str, dict[str, Any]] = {
    "users": {"dagster/row_count": 7},
    "ingestion_batches": {"files_ingested": 2, "files_quarantined": 1, "files_left": 3, "files_repeated": 0},
    "model_comparison": {"autoint.auc": 0.75, "autoint.ndcg_at_10": 0.5, "autoint.unheard_of": 1.0, "auc": 0.1},
    "data_drift": {"ratings": 100, "stability_index_age": 0.25, "unknown_share_age": 0.125},
}
VERDICT = {
    "challenger": {
        "model": "autoint",
        "registered_model": "small-autoint",
        "version": "3",
        "run_id": "a",
        "model_id": "b",
    },
    "findings": [{"name": "calibrated", "passed": False, "facts": {"error": 0.5}}],
}


def write(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")


@pytest.fixture
def records(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """Records without a run, of an empty home."""
    (tmp_path / "home").mkdir(exist_ok=True)  # a copy of a home may be there already
    with dg.DagsterInstance.ephemeral() as instance:
        yield instance


def test_a_finished_run(pipeline: Pipeline, instance: dg.DagsterInstance) -> None:
    found = scrape(instance)
    assert found.errors == {}
    tables = {"users": 300, "movies": 220, "ratings": 15_000, "train_interactions": 12_000, "test_interactions": 3_000}
    rows = {table: found.value("table_rows", DATASET, table) for table in tables}
    assert rows == tables
    for model in MODELS:
        assert found.value("published_version", DATASET, model) == 1
        assert found.value("challenger_version", DATASET, model) == 1
        pointer = pipeline.home / "archive" / DATASET / model / "champions.json"
        assert found.value("published_timestamp_seconds", DATASET, model) == pointer.stat().st_mtime
        lists = found.value("table_rows", DATASET, f"top10_{model}")
        assert lists == len(pipeline.table(f"top10_{model}"))
        passed = {gate: value for (_, gate, of), value in found.values("gate_passed").items() if of == model}
        assert passed == dict.fromkeys(GATES, 1)


def test_quality_is_that_of_the_evaluation(pipeline: Pipeline, instance: dg.DagsterInstance) -> None:
    found, measured = scrape(instance), pipeline.table("evaluation")
    for model in MODELS:
        for metric in ("ndcg_at_10", "auc", "log_loss", "catalogue_ndcg_at_10", "catalogue_coverage_at_10"):
            of_model = measured[(measured["model"] == model) & (measured["metric"] == metric)]["value"].item()
            assert found.value(f"champion_{metric}", DATASET, model, "1") == pytest.approx(of_model)


def test_a_failed_gate(refused: Pipeline, env: pytest.MonkeyPatch, records: dg.DagsterInstance) -> None:
    env.setenv("PIPELINE_HOME", str(refused.home))
    found = scrape(records)
    assert found.errors == {}
    assert found.value("gate_passed", DATASET, "not_below_champion", "autoint") == 0
    assert found.value("gate_passed", DATASET, "calibrated", "autoint") == 1
    assert found.value("challenger_version", DATASET, "autoint") == 2
    assert found.value("published_version", DATASET, "autoint") == 1
    assert {version for _, model, version in found.values("champion_auc") if model == "autoint"} == {"1"}
    others = {model for _, _, model in found.values("gate_passed")} - {"autoint"}
    assert others == set()  # their challengers are champions: no gate is left to pass


def test_runs(records: dg.DagsterInstance, env: pytest.MonkeyPatch) -> None:
    env.setenv("MOVIELENS_DIR", DATASET)
    add_run(records, STATUS.SUCCESS, 1000, 1060)
    found = scrape(records)
    assert found.value("scheduled", DATASET) == 1
    assert found.value("last_success_timestamp_seconds", DATASET) == 1060
    assert found.value("last_run_duration_seconds", DATASET) == 60
    assert found.value("last_run_failed", DATASET) == 0
    add_run(records, STATUS.FAILURE, 2000, 2007.5)
    add_run(records, STATUS.CANCELED, 3000, 3001)
    add_run(records, STATUS.SUCCESS, 4000, 4001, job="monthly_recommendations")
    add_run(records, STATUS.STARTED)
    add_run(records, STATUS.STARTED, job="monthly_recommendations")
    add_run(records, STATUS.QUEUED)
    found = scrape(records)
    assert found.value("last_success_timestamp_seconds", DATASET) == 1060
    assert found.value("last_run_timestamp_seconds", DATASET) == 2007.5
    assert found.value("last_run_duration_seconds", DATASET) == 7.5
    assert found.value("last_run_failed", DATASET) == 1
    assert found.value("runs_in_progress", DATASET) == 2
    assert found.value("runs_queued", DATASET) == 1
    add_run(records, STATUS.SUCCESS, 5000, 5002)
    assert scrape(records).value("last_run_failed", DATASET) == 0


def test_a_run_that_failed_before_its_start_has_no_duration(records: dg.DagsterInstance) -> None:
    add_run(records, STATUS.FAILURE, 2000)
    found = scrape(records)
    assert found.value("last_run_failed", DATASET) == 1
    assert found.values("last_run_duration_seconds") == {}
    assert found.values("last_success_timestamp_seconds") == {}


def test_each_data_set_has_its_own_runs(records: dg.DagsterInstance, env: pytest.MonkeyPatch) -> None:
    env.setenv("SCHEDULE_DATASETS", f"{DATASET}, ml-1m")
    add_run(records, STATUS.SUCCESS, 10, 20)
    add_run(records, STATUS.FAILURE, 30, 40, data_set="ml-1m")
    add_run(records, STATUS.SUCCESS, 50, 60, data_set="ml-1m+temporal", job="temporal_evaluation")
    add_partition(records, "ml-1m+sequential")  # a split without a job
    found = scrape(records)
    assert found.values("last_success_timestamp_seconds") == {(DATASET,): 20, ("ml-1m+temporal",): 60}
    assert found.values("last_run_failed") == {(DATASET,): 0, ("ml-1m",): 1, ("ml-1m+temporal",): 0}
    assert found.values("scheduled") == {
        (DATASET,): 1, ("ml-1m",): 1, ("ml-1m+temporal",): 0, ("ml-1m+sequential",): 0,
    }  # fmt: skip
    assert found.errors == {}
    assert {dataset for (dataset,) in found.values("incoming_files")} == {DATASET, "ml-1m"}


def test_records_of_assets_and_checks(records: dg.DagsterInstance) -> None:
    HandMade(METADATA, {"counts": False, "positive_share": True}).run(records)
    found = scrape(records)
    assert found.values("table_rows") == {(DATASET, "users"): 7}
    outcomes = {outcome: value for (_, outcome), value in found.values("last_ingestion_files").items()}
    assert outcomes == {"ingested": 2, "quarantined": 1, "left": 3, "repeated": 0}
    assert found.values("evaluated_auc") == {(DATASET, "autoint"): 0.75}
    assert found.values("evaluated_ndcg_at_10") == {(DATASET, "autoint"): 0.5}
    assert found.values("feature_stability_index") == {(DATASET, "age"): 0.25}
    assert found.values("feature_unknown_ratio") == {(DATASET, "age"): 0.125}
    checks = {("data_drift", "counts", DATASET): 0, ("data_drift", "positive_share", DATASET): 1}
    assert found.values("check_passed") == checks
    assert found.value("drift_findings", DATASET) == 1


def test_a_failed_run_leaves_the_last_results(records: dg.DagsterInstance) -> None:
    home = HandMade(METADATA, {"counts": False, "positive_share": True})
    home.run(records)
    before = scrape(records)
    home.broken = True
    home.run(records)
    found = scrape(records)
    assert found.value("last_run_failed", DATASET) == 1
    for name in ("check_passed", "drift_findings", "feature_stability_index", "last_success_timestamp_seconds"):
        assert found.values(name) == before.values(name) != {}


def test_arrivals(records: dg.DagsterInstance, tmp_path: Path) -> None:
    incoming, received = (tmp_path / "home" / folder / DATASET for folder in ("incoming", "received"))
    for name in ("ratings-2003-03-05.dat", "notes.txt", ".ratings-2003-03-06.dat", "pending/ratings-2003-03-04.dat"):
        write(incoming / name)
    for name in ("users-2003-03-01.dat", "users-2003-03-02.dat"):
        write(incoming / "quarantine" / name)
        write(incoming / "quarantine" / f"{name}.json")
    batches = [("ratings", "2003-03-02", "a" * 64, 9, ".dat"), ("users", "2003-02-01", "b" * 64, 9, ".dat")]
    withdrawn = ("ratings", "2003-03-03", "c" * 64, 9, ".dat")
    received.mkdir(parents=True)
    Manifest().with_ingestion([*batches, withdrawn]).without(3).save(received)
    add_partition(records, DATASET)
    found = scrape(records)
    assert found.value("incoming_files", DATASET) == 1
    assert found.value("pending_files", DATASET) == 1
    assert found.value("quarantined_files", DATASET) == 2
    assert found.value("ingestion_batches", DATASET) == 2
    newest = datetime(2003, 3, 2, tzinfo=UTC).timestamp()
    assert found.value("newest_batch_timestamp_seconds", DATASET) == newest


def test_daemons(records: dg.DagsterInstance) -> None:
    records.add_daemon_heartbeat(DaemonHeartbeat(1234.5, "SCHEDULER", "1"))
    assert scrape(records).values("daemon_heartbeat_timestamp_seconds") == {("scheduler",): 1234.5}


def test_damaged_files_cost_their_own_values_only(
    own_home: Path, instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture
) -> None:
    archive, tables = own_home / "archive" / DATASET, own_home / "tables" / DATASET
    (archive / "autoint" / "champions.json").write_text("[1]")
    (archive / "autoint_mlp" / "1" / "version.json").write_text("{}")
    (tables / "promotion.json").write_text('{"autoint": {"challenger": {}}}')
    write(own_home / "received" / DATASET / "manifest.json")
    collector = PipelineCollector(instance)
    with caplog.at_level(logging.WARNING):
        found = Scrape(collector)
        assert Scrape(collector).errors == found.errors == {"publication": 2, "gates": 1, "arrivals": 1}
    assert len(caplog.messages) == 4  # of the first scrape; the second one failed in the same way
    for path in (archive / "autoint" / "champions.json", archive / "autoint_mlp" / "1" / "version.json"):
        assert any(str(path) in message for message in caplog.messages)
    versions = {model for _, model in found.values("published_version")}
    assert versions == set(MODELS) - {"autoint"}
    assert found.value("table_rows", DATASET, "users") == 300
    assert found.value("incoming_files", DATASET) == 0


def test_a_failure_is_logged_again_after_it_had_passed(
    own_home: Path, instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture
) -> None:
    pointer = own_home / "archive" / DATASET / "autoint" / "champions.json"
    good, collector = pointer.read_text(), PipelineCollector(instance)
    with caplog.at_level(logging.WARNING):
        for text in ("damaged", good, "damaged"):
            pointer.write_text(text)
            assert Scrape(collector).errors == ({} if text == good else {"publication": 1})
    assert len(caplog.messages) == 2


def test_records_that_cannot_be_read_leave_the_files(
    pipeline: Pipeline, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def locked(*_: Any, **__: Any) -> None:
        raise OSError("database is locked")

    for name in ("get_run_records", "fetch_materializations", "get_dynamic_partitions"):
        monkeypatch.setattr(instance, name, locked)
    found = scrape(instance)
    assert found.errors == {"datasets": 1}
    monkeypatch.setattr(instance, "get_dynamic_partitions", lambda _: [DATASET])
    found = scrape(instance)
    assert found.errors == dict.fromkeys(("runs", "tables", "ingestion", "drift", "evaluation"), 1)
    assert {model for _, model in found.values("published_version")} == set(MODELS)


def test_a_partition_of_no_data_set_is_an_error(records: dg.DagsterInstance) -> None:
    records.add_dynamic_partitions(str(DATA_SETS.name), ["ml-1m+unheard"])
    add_run(records, STATUS.SUCCESS, 1, 2)
    found = scrape(records)
    assert found.errors == {"datasets": 1}
    assert found.value("last_success_timestamp_seconds", DATASET) == 2


def test_a_home_that_does_not_exist_yet(records: dg.DagsterInstance, tmp_path: Path) -> None:
    (tmp_path / "home").rmdir()
    found = scrape(records)
    assert found.errors == {}
    assert found.values("disk_size_bytes") == {}


def test_an_empty_home(records: dg.DagsterInstance) -> None:
    found = scrape(records)
    assert found.errors == {}
    assert found.value("disk_size_bytes") >= found.value("disk_free_bytes") > 0
    assert set(CATALOG) - found.empty == {
        "disk_size_bytes",
        "disk_free_bytes",
        "scrape_errors",
        "scrape_duration_seconds",
    }


def test_every_metric_has_a_value(own_home: Path, records: dg.DagsterInstance) -> None:
    """What no run can give would be a metric that nobody ever sees."""
    received = own_home / "received" / DATASET
    received.mkdir(parents=True, exist_ok=True)
    Manifest().with_ingestion([("ratings", "2003-03-02", "a" * 64, 9, ".dat")]).save(received)
    (own_home / "tables" / DATASET / "promotion.json").write_text(json.dumps({"autoint": VERDICT}))
    records.add_daemon_heartbeat(DaemonHeartbeat(1.0, "SENSOR", "1"))
    compared = {f"autoint.{name}": 0.5 for name in ("log_loss", "catalogue_ndcg_at_10", "catalogue_coverage_at_10")}
    HandMade({**METADATA, "model_comparison": {**METADATA["model_comparison"], **compared}}, {"counts": True}).run(
        records
    )
    assert scrape(records).empty == set()


def test_all_checks_that_warn_are_exported() -> None:
    graph = build_definitions().resolve_asset_graph()
    specs = [graph.get_check_spec(key) for key in graph.asset_check_keys]
    assert {spec.key for spec in specs if not spec.blocking} == set(check_keys())


def test_every_table_is_materialized() -> None:
    keys = {key.to_user_string() for key in build_definitions().resolve_asset_graph().get_all_asset_keys()}
    assert {"users", "movies", "ratings", "train_interactions", "test_interactions"} < keys
    assert {key.asset_key.to_user_string() for key in check_keys()} < keys


def test_figures_of_drift_are_as_the_asset_records_them() -> None:
    """The names of metadata that the exporter looks for are those of the library."""
    from ml.evaluation.drift import Comparison

    totals = pd.DataFrame(
        {"ratings": [9, 9], "users": [1, 1], "movies": [1, 1], "positive_share": [0.5, 0.5]},
        index=pd.Index([0, 1], name="ingestion"),
    )
    fields = pd.DataFrame({"field": ["age"], "stability_index": [0.25], "by_chance": [0.1], "unknown_share": [0.125]})
    figures = Comparison(tonight=1, before=0, totals=totals, fields=fields).figures
    assert {"stability_index_age", "unknown_share_age"} < set(figures)
