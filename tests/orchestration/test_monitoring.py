"""What the nightly run warns of: drift on hand-made nights; lists and metrics on the pipeline's own assets."""

from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from ml import schema
from orchestration.assets.monitoring import drift_asset
from orchestration.config.data_sets import DATA_SETS, add_partition
from orchestration.config.monitoring_config import load_monitoring_config
from orchestration.resources.raw_data import RawData
from orchestration.resources.storage import DocumentIOManager, Storage, TableIOManager
from tests.feature_maps import fitted
from tests.orchestration.config.test_monitoring_config import with_value
from tests.orchestration.conftest import DATASET, RUN_CONFIG, Pipeline, run_job
from tests.orchestration.recipes import MODELS

ROWS = 1000  # of a night
Outcome = dict[str, dg.AssetCheckEvaluation]


def rows_of(batch: int, **fields: Any) -> pd.DataFrame:
    """Ratings by 200 users of 50 movies; every third is positive."""
    row = np.arange(ROWS)
    own = {
        "ingestion_batch": batch,
        "user_id": row % 200,
        "movie_id": row % 50,
        "label": row % 3 == 0,
        "genre1": "Drama",
    }
    constant = {name: "x" for name in schema.FIELD_NAMES if name not in own}
    return pd.DataFrame({**own, **constant, "rating_month": 1, **fields}).astype(
        {"ingestion_batch": "int32", "label": "int8"}
    )


def drift_of(*nights: pd.DataFrame) -> tuple[dg.ExecuteInProcessResult, Outcome]:
    """Materialize data_drift on the base files and these nights, ingestion and batch 1, 2, ...

    The ratings have all features, so that a user or movie may have others each night.
    """
    rows = pd.concat([rows_of(0), *nights], ignore_index=True)

    @dg.asset(partitions_def=DATA_SETS)
    def users() -> dg.MaterializeResult[Any]:
        return dg.MaterializeResult(value=rows[["user_id"]].drop_duplicates())

    @dg.asset(partitions_def=DATA_SETS)
    def movies() -> dg.MaterializeResult[Any]:
        return dg.MaterializeResult(value=rows[["movie_id"]].drop_duplicates())

    @dg.asset(partitions_def=DATA_SETS)
    def ratings() -> dg.MaterializeResult[Any]:
        return dg.MaterializeResult(value=rows)

    @dg.asset(partitions_def=DATA_SETS, io_manager_key="document_io_manager")
    def ingestion_batches() -> dg.MaterializeResult[Any]:
        files = [{"sequence": number, "ingestion": number, "kind": "ratings"} for number in range(1, len(nights) + 1)]
        return dg.MaterializeResult(value={"files": files})

    @dg.asset(partitions_def=DATA_SETS, io_manager_key="document_io_manager")
    def feature_map() -> dg.MaterializeResult[Any]:
        return dg.MaterializeResult(value=fitted(pd.concat([rows_of(0), *nights])).to_dict())

    raw_data = RawData()
    resources = {
        "io_manager": TableIOManager(raw_data=raw_data),
        "document_io_manager": DocumentIOManager(raw_data=raw_data),
    }
    assets = [users, movies, ratings, ingestion_batches, feature_map, drift_asset(load_monitoring_config().drift)]
    with dg.DagsterInstance.ephemeral() as instance:
        add_partition(instance, DATASET)
        result = dg.materialize(assets, resources=resources, instance=instance, partition_key=DATASET)
    return result, checks_of(result)


def checks_of(result: dg.ExecuteInProcessResult) -> Outcome:
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


def failed(checks: Outcome) -> set[str]:
    assert {check.severity for check in checks.values() if not check.passed} <= {dg.AssetCheckSeverity.WARN}
    return {name for name, check in checks.items() if not check.passed}


def drift_table() -> pd.DataFrame:
    return pd.read_parquet(Path(str(Storage(raw_data=RawData.of(DATASET)).tables)) / "data_drift.parquet")


def test_a_night_whose_ratings_count_no_more_is_a_gap() -> None:
    """As after a batch of users alone, or one all of whose ratings were given again later."""
    for nights in ([rows_of(1), rows_of(2).iloc[:0], rows_of(3)], [rows_of(1), rows_of(2).iloc[:0]], [rows_of(1)[:0]]):
        result, _ = drift_of(*nights)
        assert result.success
        [made] = result.asset_materializations_for_node("data_drift")
        assert "likes_by_ingestion" in made.metadata


def test_without_deliveries_nothing_warns(tmp_path: Path) -> None:
    result, checks = drift_of()
    assert set(checks) == {"counts", "positive_share", "population_stability", "unknown_codes"}
    assert failed(checks) == set()
    assert {check.description for check in checks.values()} == {
        "Nothing has been ingested yet: there are only the base files, so there is nothing to compare."
    }
    assert drift_table()["value"].tolist() == [ROWS, 200, 50, pytest.approx(1 / 3, abs=1e-3)]
    assert result.success


def test_nights_that_are_alike_pass_with_figures_to_plot() -> None:
    result, checks = drift_of(rows_of(1), rows_of(2, rating_month=2))
    assert failed(checks) == set()
    [made] = result.asset_materializations_for_node("data_drift")
    shown = made.metadata
    assert shown["ratings"].value == ROWS
    assert shown["stability_index_genre1"].value == 0
    assert shown["unknown_share_rating_month"].value == 1  # the calendar moves on by itself
    for name in ("likes_by_ingestion", "least_stable_features"):
        assert str(shown[name].value).startswith("![")
    assert "|genre1|" in str(shown["by_feature"].value)
    assert len(drift_table()) == 3 * 4 + 3 * 14


@pytest.mark.parametrize(
    ("check", "change", "told"),
    [
        (
            "positive_share",
            {"label": 1},
            "The share of positive labels is 1.000 in ingestion 2 and 0.334 in ingestion 1",
        ),
        (
            "population_stability",
            {"movie_id": 3},
            "Population stability index of ingestion 2 compared with ingestion 1: movie_id",
        ),
        ("unknown_codes", {"genre1": ["Western"] * 100 + ["Drama"] * (ROWS - 100)}, "genre1 0.1 (limit 0.05)"),
    ],
)
def test_a_night_that_differs_is_told_of(check: str, change: dict[str, Any], told: str) -> None:
    result, checks = drift_of(rows_of(1), rows_of(2, **change))
    assert check in failed(checks)
    assert told in str(checks[check].description)
    assert result.success
    assert len(drift_table()) == 3 * 4 + 3 * 14


def test_a_night_of_few_ratings_is_told_of_and_not_judged_further() -> None:
    _, checks = drift_of(rows_of(1), rows_of(2, label=1).head(40))
    assert failed(checks) == {"counts"}
    assert str(checks["counts"].description).startswith("Ingestion 2 has 40 ratings by 40 users of 40 movies")
    assert str(checks["positive_share"].description).startswith("Not judged: 40 ratings of ingestion 2")


def test_an_asset_is_rebuilt_for_its_own_limits() -> None:
    limits = load_monitoring_config().drift
    changed = limits.model_copy(update={"minimum_rows": 1})
    assert drift_asset(changed).code_versions_by_key != drift_asset(limits).code_versions_by_key


def test_first_publication_and_evaluation_say_so(materialized: Pipeline) -> None:
    checks = checks_of(materialized.result)
    for model in MODELS:
        first = checks[f"stable_{model}"]
        assert first.passed
        assert first.description == f"{model}: First publication: there are no earlier lists to compare with."
    assert str(checks["metric_drops"].description).startswith("No earlier evaluation")


@pytest.fixture
def other_lists(own_home: Path) -> Path:
    """A home in which the published table of autoint has other movies in three of ten slots of every user."""
    path = own_home / "archive" / DATASET / "autoint" / "1" / "top10.parquet"
    table = pd.read_parquet(path)
    table.assign(movie_id=table["movie_id"].where(table["rank"] > 3, -table["rank"])).to_parquet(path)
    return path


@pytest.mark.parametrize(
    ("limit", "fails"), [pytest.param(0.31, set(), marks=pytest.mark.slow), (0.29, {"stable_autoint"})]
)
def test_lists_are_compared_with_those_they_replace(
    other_lists: Path,
    instance: dg.DagsterInstance,
    env: pytest.MonkeyPatch,
    tmp_path: Path,
    limit: float,
    fails: set[str],
) -> None:
    env.setenv("MONITORING_YAML", str(with_value(tmp_path, "slots_changed", limit)))
    result = run_job(instance, RUN_CONFIG, "top10_recommendations")
    checks = checks_of(result)
    assert failed(checks) == fails
    users = pd.read_parquet(other_lists)["user_id"].nunique()
    told = f"autoint: 30.0% of the slots of {users:,} users hold a movie that was not in the user's list before"
    assert str(checks["stable_autoint"].description).startswith(told)
    [made] = result.asset_materializations_for_node("top10_recommendations")
    changed = {model: made.metadata[f"{model}.slots_changed"].value for model in MODELS}
    assert changed == {**dict.fromkeys(MODELS, 0), "autoint": pytest.approx(0.3)}
    assert pd.read_parquet(other_lists)["movie_id"].min() > 0  # the new table has taken its place


@pytest.mark.slow
def test_a_damaged_table_is_told_of_and_replaced(own_home: Path, instance: dg.DagsterInstance) -> None:
    damaged = {
        "stable_autoint": own_home / "archive" / DATASET / "autoint" / "1" / "top10.parquet",
        "metric_drops": own_home / "tables" / DATASET / "evaluation.parquet",
    }
    for path in damaged.values():
        path.write_bytes(b"PAR1")
    checks = checks_of(run_job(instance, RUN_CONFIG, "model_comparison", "top10_recommendations"))
    assert failed(checks) == set(damaged)
    for check, path in damaged.items():
        assert f"{path.name}: found no Parquet table" in str(checks[check].description)
        assert len(pd.read_parquet(path))


def test_metrics_are_compared_with_those_they_replace(
    own_home: Path, instance: dg.DagsterInstance, env: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = own_home / "tables" / DATASET / "evaluation.parquet"
    table = pd.read_parquet(path)
    now = table.set_index(["model", "metric"])["value"]["autoint", "auc"]
    for better in (("autoint", "auc", 0.1), ("movie_mean", "auc", 0.1), ("autoint", "log_loss", 0.1)):
        own = (table["model"] == better[0]) & (table["metric"] == better[1])
        table["value"] = table["value"] + own * better[2]
    table.to_parquet(path)
    env.setenv("MONITORING_YAML", str(with_value(tmp_path, "metric_drop.default", 0.09)))
    checks = checks_of(run_job(instance, RUN_CONFIG, "model_comparison"))
    assert failed(checks) == {"metric_drops"}
    told = f"Metrics are worse than in the last evaluation: autoint auc {now + 0.1:.4g} to {now:.4g} "
    assert checks["metric_drops"].description == f"{told}(limit 0.09)."
    assert "|autoint|" in str(checks["metric_drops"].metadata["changes"].value)
