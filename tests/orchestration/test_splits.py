from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from ml.evaluation.comparison import comparison_by_split
from ml.features.splits import Split
from orchestration.assets.recommendations import _require_published
from orchestration.automation.jobs import TEMPORAL_EVALUATION
from orchestration.config.data_sets import DataSet, add_partition
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
    data_set = f"{DATASET}+temporal"
    add_partition(instance, data_set)
    assert job.execute_in_process(
        partition_key=data_set, instance=instance, asset_selection=[dg.AssetKey(name) for name in UP_TO_SPLIT]
    ).success
    assert [path.name for path in (tmp_path / "tables").iterdir()] == [data_set]
    folder = tmp_path / "tables" / data_set
    train, test = (pd.read_parquet(folder / f"{part}_interactions.parquet") for part in ("train", "test"))
    assert len(test) == len(pipeline.table("test_interactions"))
    assert train["timestamp"].max() <= test["timestamp"].min()


def test_only_the_random_split_is_published() -> None:
    with pytest.raises(dg.Failure, match=r"films.temporal: only the random split is published; .* partition films, or"):
        _require_published(RawData.of("films+temporal"))
    _require_published(RawData.of("films"))


def test_splits_stand_side_by_side(env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    env.setenv("PIPELINE_HOME", str(tmp_path))

    def evaluation(**values: float) -> pd.DataFrame:
        return pd.DataFrame({"model": list(values), "metric": "auc", "value": list(values.values())})

    splits: tuple[Split, Split] = ("temporal", "random")
    for split, table in zip(splits, (evaluation(b=0.6), evaluation(a=0.7, b=0.8)), strict=True):
        Storage(raw_data=RawData.of(DataSet(DATASET, split).key)).write_table("evaluation", table)
    for split in splits:
        found = comparison_by_split(Storage(raw_data=RawData.of(DataSet(DATASET, split).key)).evaluations())
        assert list(found) == ["random", "temporal"]
        assert found.loc[("b", "auc")].tolist() == [0.8, 0.6]
        assert found.loc[("a", "auc"), "random"] == 0.7
        assert pd.isna(found.loc[("a", "auc"), "temporal"])
