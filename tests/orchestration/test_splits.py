from pathlib import Path

import dagster as dg
import pandas as pd
import pytest
from pydantic import ValidationError

from ml.evaluation.metric_tables import comparison_by_split
from orchestration.automation.jobs import TEMPORAL_EVALUATION
from orchestration.definitions import build_definitions
from orchestration.resources.raw_data import RawData
from orchestration.resources.storage import Storage
from tests.orchestration.conftest import DATASET, Pipeline

UP_TO_SPLIT = (
    "raw_users", "raw_movies", "raw_ratings",
    "ingestion_batches", "ingested_users", "ingested_movies", "ingested_ratings",
    "users", "movies", "ratings", "interactions", "feature_map", "encoded_interactions",
    "train_interactions", "test_interactions",
)  # fmt: skip


def test_the_temporal_job_splits_by_time_under_a_name_of_its_own(
    pipeline: Pipeline, env: pytest.MonkeyPatch, tmp_path: Path, instance: dg.DagsterInstance
) -> None:
    env.setenv("PIPELINE_HOME", str(tmp_path))
    job = build_definitions(dg.in_process_executor).resolve_job_def(TEMPORAL_EVALUATION)
    source = {"resources": {"raw_data": {"config": {"source": DATASET, "split": "temporal"}}}}
    assert job.execute_in_process(
        run_config=source, instance=instance, asset_selection=[dg.AssetKey(name) for name in UP_TO_SPLIT]
    ).success
    assert [path.name for path in (tmp_path / "tables").iterdir()] == [f"{DATASET}-temporal"]
    folder = tmp_path / "tables" / f"{DATASET}-temporal"
    train, test = (pd.read_parquet(folder / f"{part}_interactions.parquet") for part in ("train", "test"))
    assert len(test) == len(pipeline.table("test_interactions"))
    assert train["timestamp"].max() <= test["timestamp"].min()


@pytest.mark.parametrize(
    ("split", "name"),
    [("random", DATASET), ("temporal", f"{DATASET}-temporal"), ("sequential", f"{DATASET}-sequential")],
)
def test_a_split_s_results_have_its_name(split: str, name: str) -> None:
    assert RawData(source=DATASET, split=split).dataset == name


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(ValidationError, match="split"):
        RawData(source=DATASET, split="by_user")


def test_splits_stand_side_by_side(env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env.setenv("PIPELINE_HOME", str(tmp_path))

    def evaluation(**values: float) -> pd.DataFrame:
        return pd.DataFrame({"model": list(values), "metric": "auc", "value": list(values.values())})

    for split, table in (("temporal", evaluation(b=0.6)), ("random", evaluation(a=0.7, b=0.8))):
        Storage(raw_data=RawData(source=DATASET, split=split)).write_table("evaluation", table)
    for split in ("temporal", "random"):
        found = comparison_by_split(Storage(raw_data=RawData(source=DATASET, split=split)).evaluations())
        assert list(found) == ["random", "temporal"]
        assert found.loc[("b", "auc")].tolist() == [0.8, 0.6]
        assert found.loc[("a", "auc"), "random"] == 0.7
        assert pd.isna(found.loc[("a", "auc"), "temporal"])
