import io
import uuid
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from upath import UPath

from ml.data.manifest import KINDS
from ml.errors import DataError
from ml.published.recommendations import get_recommendations
from orchestration.reporting.columns import meaning
from orchestration.reporting.metadata import figures, markdown_table, plain, table_metadata
from orchestration.resources.storage import Storage, as_parquet
from orchestration.tracking.publication import Publication
from orchestration.tracking.registered_version import RegisteredVersion
from tests.orchestration.conftest import DATASET, Pipeline, assert_same_list, run_job
from tests.orchestration.tracking.test_publication import NAME, Registry
from tests.stored import stored_interactions

RAW = ("raw_users", "raw_movies", "raw_ratings")


@pytest.fixture
def remote_home(env: pytest.MonkeyPatch) -> UPath:
    """A home that is no local directory, set in the environment."""
    home = f"memory://{uuid.uuid4().hex}/home"
    env.setenv("PIPELINE_HOME", home)
    return UPath(home)


def names(folder: UPath) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_tables_can_lie_on_a_remote_file_system(remote_home: UPath, instance: dg.DagsterInstance) -> None:
    made = (*RAW, *(f"ingested_{kind}" for kind in KINDS), *KINDS)
    result = run_job(instance, {}, "ingestion_batches", *made)
    assert result.success
    tables = remote_home / "tables" / DATASET
    assert names(tables) == sorted(["ingestion_batches.json", *(f"{name}.parquet" for name in made)])
    ratings = pd.read_parquet(io.BytesIO((tables / "ratings.parquet").read_bytes()))
    assert len(ratings) == 15_000
    written = result.asset_value("ratings")
    assert written.rows == 15_000
    pd.testing.assert_frame_equal(ratings.head(), written.head)


def test_models_can_be_published_on_a_remote_file_system(
    pipeline: Pipeline, remote_home: UPath, storage: Storage
) -> None:
    top = pipeline.table("top10_autoint")
    registry: Any = Registry()
    publication = Publication(remote_home, DATASET, "autoint", NAME, registry, "champion")
    version = RegisteredVersion("autoint", NAME, "1", "run", "model")
    publication.publish(version, as_parquet(top), pipeline.bundle_path("autoint").read_bytes())
    assert publication.table == storage.tables / "top10_autoint.parquet"
    storage.write_table("ratings", pipeline.table("ratings"))
    assert publication.sync() == []
    moment = int(top["rating_year"].iloc[0]), int(top["rating_month"].iloc[0])
    assert_same_list(get_recommendations(3, *moment, "autoint", home=str(remote_home)), top[top["user_id"] == 3])


def test_index_is_not_written(tmp_path: Path, storage: Storage) -> None:
    path = storage.write_table("odd", pd.DataFrame({"a": [1, 2]}, index=[7, 9]))
    assert path == UPath(tmp_path / "home" / "tables" / DATASET / "odd.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(Path(str(path))), pd.DataFrame({"a": [1, 2]}))


def test_table_metadata() -> None:
    frame = pd.DataFrame({"movie": np.arange(7, dtype=np.int32), "title": list("abcdefg")})
    metadata = table_metadata(frame, len(frame), "movies")
    assert metadata["dagster/row_count"] == 7
    schema = metadata["dagster/column_schema"]
    assert [(column.name, column.type) for column in schema.columns] == [("movie", "int32"), ("title", "str")]
    assert [column.description for column in schema.columns] == [None, "Title without the year."]
    preview = metadata["preview"]
    assert isinstance(preview, dg.MarkdownMetadataValue)
    assert all(f"|{letter}|" in preview.value for letter in "abcde")
    assert not any(f"|{letter}|" in preview.value for letter in "fg")


@pytest.mark.parametrize("index", [False, True])
def test_strings_as_ids_are_shown_literally(index: bool) -> None:
    frame = pd.DataFrame({"rank": [1, 2], "movie_id": ["1e5", "0017"], "score": [0.25, 0.5]})
    shown = markdown_table(frame, index=index).value.splitlines()
    assert [line.split("|")[2 + index] for line in shown[2:]] == ["1e5", "0017"]
    assert [line.split("|")[3 + index] for line in shown[2:]] == ["0.25", "0.5"]


def test_materialized_tables_show_metadata(pipeline: Pipeline) -> None:
    events = pipeline.result.asset_materializations_for_node("interactions")
    metadata = {key: value.value for key, value in events[0].metadata.items()}
    assert metadata["dagster/row_count"] == 15_000
    assert {column.name for column in metadata["dagster/column_schema"].columns} == set(
        stored_interactions(pipeline.tables)
    )
    assert metadata["preview"].count("\n") == 6  # a heading, a rule and five rows
    assert "share" in metadata["labels"]


def test_numpy_scalars_are_made_plain() -> None:
    facts = {"a": np.float32(0.5), "b": np.int64(3), "c": np.bool_(True), "d": "text", "e": 1.5}
    found = plain(facts)
    assert found == {"a": 0.5, "b": 3, "c": True, "d": "text", "e": 1.5}
    assert [type(value) for value in found.values()] == [float, int, bool, str, float]


def test_what_is_no_number_is_told_in_words() -> None:
    facts = plain({"a": np.float64("nan"), "b": float("inf"), "c": -np.inf})
    assert facts == {"a": "not measured", "b": "infinite", "c": "infinite"}


def test_whole_figures_are_exact() -> None:
    values = {"ratings": 1_000_209, "as_float": 1_000_209.0, "share": 0.123456789, "none": np.nan, "all": np.inf}
    assert figures(values) == {"ratings": 1_000_209, "as_float": 1_000_209.0, "share": 0.12346}


@pytest.mark.parametrize(
    ("asset", "column", "text"),
    [
        ("users", "user_id", "User, as in the raw files."),
        ("interactions", "title", "Title without the year."),
        ("raw_movies", "title", "Title with the year in parentheses."),
        ("ingested_ratings", "date", "Day in the name of the ingested file."),
        ("train_interactions", "user_id", "User: its index in the feature map, from 0."),
        ("encoded_interactions", "rating_year", "Year of the rating: its index in the feature map, from 0."),
        ("encoded_interactions", "rating", "Stars, at most 5."),
        ("autoint_lists", "movie_id", "Listed movie: its index in the feature map, from 0."),
        ("baseline_lists", "model", "Baseline."),
        ("baseline_scores", "movie_mean", "Score of the movie mean: mean label of the movie's training rows."),
        ("model_comparison", "value", "Value of the metric."),
        ("users", "unheard_of", None),
    ],
)
def test_meanings_are_those_of_the_asset(asset: str, column: str, text: str | None) -> None:
    assert meaning(asset, column) == text


def test_a_stored_table_is_read_by_its_columns(remote_home: UPath, storage: Storage) -> None:
    assert storage.find_table("numbers", ["a"]) is None
    path = storage.write_table("numbers", pd.DataFrame({"a": [1, 2], "b": [3, 4]}))
    found = storage.find_table("numbers", ["b"])
    assert found is not None
    assert found.to_dict("list") == {"b": [3, 4]}
    with pytest.raises(DataError, match=r"numbers\.parquet: found no Parquet table with the columns b, c"):
        storage.find_table("numbers", ["b", "c"])
    for damaged in (b"", path.read_bytes()[:-4]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"numbers\.parquet: found no Parquet table with the columns a"):
            storage.find_table("numbers", ["a"])
