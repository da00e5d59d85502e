"""Who becomes champion, and the way back, on the pipeline's own assets."""

from dataclasses import replace
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
import yaml
from mlflow.exceptions import MlflowException
from upath import UPath

from ml.published.snapshot import Published
from orchestration.__main__ import main as command
from orchestration.cli import rollback
from orchestration.resources.raw_data import RawData
from orchestration.tracking.resource import Tracking
from orchestration.tracking.retention import prune
from tests.orchestration.conftest import (
    DATASET,
    LENIENT,
    RUN_CONFIG,
    Pipeline,
    copy_of,
    environment,
    run_job,
    strict,
)

NAME = f"{DATASET}-autoint"


def aliases(home: Path) -> dict[str, str]:
    """The version of each alias of autoint."""
    with environment({"PIPELINE_HOME": home}):
        found = Tracking(raw_data=RawData.of(DATASET)).client.get_registered_model(NAME).aliases
    return {alias: str(number) for alias, number in found.items()}


def test_a_refused_challenger_stays_challenger(refused: Pipeline) -> None:
    assert refused.result.success
    assert aliases(refused.home) == {"challenger": "2", "champion": "1"}
    assert refused.document("autoint")["version"] == "2"


def test_tables_go_on_being_written_from_the_champion(refused: Pipeline, materialized: Pipeline) -> None:
    table = refused.table("top10_autoint")
    assert set(table["model_version"]) == {"1"}
    assert set(table["rating_year"]) == {2002}
    assert refused.bundle_path("autoint").read_bytes()
    first = materialized.bundle("autoint").network.get_weights()
    published = refused.bundle("autoint").network.get_weights()
    assert all((a == b).all() for a, b in zip(first, published, strict=True))


def test_a_champion_that_does_not_know_the_year_recommends_for_its_own_latest_month(
    refused: Pipeline, materialized: Pipeline, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    home = copy_of(refused, tmp_path)
    path = home / "tables" / DATASET / "ratings.parquet"
    ratings = pd.read_parquet(path)
    ratings.loc[0, "rating_year"] = 2004
    ratings.to_parquet(path, index=False)
    with environment({"PIPELINE_HOME": home, "MOVIELENS_CACHE": materialized.cache, "MLFLOW_YAML": strict(tmp_path)}):
        assert run_job(instance, {}, "top10_recommendations").success
    table = pd.read_parquet(home / "tables" / DATASET / "top10_autoint.parquet")
    latest = ratings.loc[1:, ["rating_year", "rating_month"]].max(axis=0)
    first = materialized.table("top10_autoint")
    assert table["rating_year"].unique().tolist() == [latest["rating_year"]]
    assert table["rating_month"].unique().tolist() == first["rating_month"].unique().tolist()
    assert set(table["model_version"]) == {"1"}


def test_the_warning_names_the_gate_and_its_figures(refused: Pipeline) -> None:
    found = {check.check_name: check for check in refused.result.get_asset_check_evaluations()}
    check = found["promoted_autoint"]
    assert not check.passed
    assert not check.blocking
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert check.description
    assert check.description.startswith(
        "autoint version 2 is not promoted, version 1 stays champion: not_below_champion"
    )
    gates = refused.document("promotion")["autoint"]["findings"]
    facts = next(gate["facts"] for gate in gates if gate["name"] == "not_below_champion")
    assert facts["low"] < 0
    assert f"difference {facts['difference']:.5g}, low {facts['low']:.5g}" in check.description
    assert found["promoted_autoint_mlp"].passed
    assert found["top_lists_autoint"].passed


def test_figures_are_those_of_the_same_test_rows(refused: Pipeline, materialized: Pipeline) -> None:
    gates = refused.document("promotion")["autoint"]["findings"]
    facts = next(gate["facts"] for gate in gates if gate["name"] == "not_below_champion")

    def ndcg(pipeline: Pipeline) -> float:
        metrics = pipeline.table("autoint_metrics").set_index("metric")["value"]
        return float(metrics["ndcg_at_10"])

    assert facts["difference"] == pytest.approx(ndcg(refused) - ndcg(materialized), abs=1e-6)


def test_first_versions_are_promoted_without_a_champion(materialized: Pipeline) -> None:
    assert materialized.result.success
    for check in materialized.result.get_asset_check_evaluations():
        assert check.passed, check
    gates = materialized.document("promotion")["autoint"]["findings"]
    assert [gate["name"] for gate in gates] == ["not_below_champion", "not_below_movie_mean", "calibrated"]
    assert gates[0]["facts"] == {"champion": "none to beat"}


@pytest.fixture
def two_champions(promoted: Pipeline, env: pytest.MonkeyPatch, tmp_path: Path) -> Pipeline:
    """A home in which a second version of autoint took the first one's place."""
    again = replace(promoted, home=copy_of(promoted, tmp_path))
    env.setenv("PIPELINE_HOME", str(again.home))
    env.setenv("MOVIELENS_CACHE", str(again.cache))
    return again


def test_the_way_back_and_no_way_forth(
    two_champions: Pipeline,
    materialized: Pipeline,
    refused: Pipeline,
    instance: dg.DagsterInstance,
    capsys: pytest.CaptureFixture[str],
) -> None:
    home = two_champions.home
    assert aliases(home) == {"challenger": "2", "champion": "2"}

    def calibration_error() -> float | None:
        return Published(UPath(home)).current.model("autoint").calibration_error

    def measured(pipeline: Pipeline) -> float:
        evaluation = pipeline.table("evaluation").set_index(["model", "metric"])["value"]
        return float(evaluation["autoint", "expected_calibration_error"])

    assert calibration_error() == pytest.approx(measured(two_champions))
    assert rollback.main("autoint", "1") == 0
    assert calibration_error() == pytest.approx(measured(materialized))
    assert "version 1 is champion again" in capsys.readouterr().out
    assert aliases(home) == {"challenger": "2", "champion": "1"}
    pd.testing.assert_frame_equal(two_champions.table("top10_autoint"), refused.table("top10_autoint"))
    # The night after: the version that was left does not come back by itself.
    result = run_job(instance, RUN_CONFIG, "promotion", "top10_recommendations")
    assert aliases(home)["champion"] == "1"
    assert set(two_champions.table("top10_autoint")["model_version"]) == {"1"}
    check = next(c for c in result.get_asset_check_evaluations() if c.check_name == "promoted_autoint")
    assert check.description
    assert "not_rolled_back" in check.description
    # A person may change their mind.
    assert rollback.main("autoint", "2") == 0
    assert aliases(home)["champion"] == "2"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["autoint", "1"], "version 1 is the champion of autoint already"),
        (["autoint", "7"], "no table of version 7 of synthetic-small-autoint is kept; kept are 1"),
        (["autoint", "one"], "VERSION='one'; expected the number"),
        (["pop", "1"], "MODEL='pop'; expected one of autoint"),
        (["autoint", "1", "films"], "DATASET='films'; expected one of synthetic-small"),
    ],
)
def test_a_way_back_that_there_is_not(
    pipeline: Pipeline, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["rollback", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_old_versions_and_runs_go_and_champions_stay(
    two_champions: Pipeline, env: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tracking = Tracking(raw_data=RawData.of(DATASET))
    client = tracking.client
    source = client.get_model_version(NAME, "1")
    rollback.roll_back("autoint", "1", DATASET)  # the champion is the oldest version
    with tracking.session():
        for _ in range(3):
            client.create_model_version(NAME, source.source, source.run_id)
    document = yaml.safe_load(LENIENT.read_text("utf-8"))
    document["retention"] = {"versions": 1, "champions": 0, "runs": 0}
    (tmp_path / "short.yaml").write_text(yaml.safe_dump(document), "utf-8")
    env.setenv("MLFLOW_YAML", str(tmp_path / "short.yaml"))
    client.set_registered_model_alias(NAME, "challenger", "5")
    second = client.get_model_version(NAME, "2")
    pruned = prune(tracking, "autoint")
    assert pruned.versions == ("2", "3", "4")
    assert second.run_id in pruned.runs
    left = sorted(str(version.version) for version in client.search_model_versions(f"name = '{NAME}'"))
    assert left == ["1", "5"]
    runs = {run.info.run_id for run in client.search_runs([tracking.experiment_id()], "tags.model = 'autoint'")}
    assert runs == {source.run_id}
    model_id = second.source.removeprefix("models:/")
    with pytest.raises(MlflowException, match="not found"):
        client.get_logged_model(model_id)
    artifacts = two_champions.home / "mlflow-artifacts" / DATASET
    assert (artifacts / source.run_id).exists()
    assert not list((artifacts / second.run_id).rglob("*"))
    assert not list((artifacts / "models" / model_id).rglob("*.zip"))
    assert tracking.publication("autoint").archive.versions() == ["1"]
    champion = tracking.champion("autoint")
    assert champion
    assert champion.version == "1"
    assert len(tracking.load_bundle(champion).users) == 300  # still whole
