from pathlib import Path

import pytest
from upath import UPath

from ml.errors import DataError, NotFoundError
from ml.published.champions import (
    ModelArchive,
    archived_datasets,
    archived_models,
    chosen_dataset,
    published_datasets,
    published_models,
    published_versions,
)
from tests.published_home import DATASET, archive, point_to


def test_the_champion_is_the_last_of_the_list(tmp_path: Path) -> None:
    found = ModelArchive(UPath(tmp_path), DATASET, "autoint")
    assert (found.champion(), found.champions()) == (None, [])
    point_to(tmp_path, "autoint", "1", "3", "2")
    champion = found.champion()
    assert champion
    assert champion.table == UPath(tmp_path) / "archive" / DATASET / "autoint" / "2" / "top10.parquet"
    assert found.champions() == ["1", "3", "2"]
    assert not champion.is_complete


def test_kept_versions_are_those_with_table_and_bundle(tmp_path: Path) -> None:
    for number, names in (("10", ("top10.parquet", "bundle.zip")), ("9", ("bundle.zip", "top10.parquet")), ("8", ())):
        for name in ("version.json", *names):
            path = archive(tmp_path, "autoint") / number / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    assert ModelArchive(UPath(tmp_path), DATASET, "autoint").versions() == ["9", "10"]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '["3", "../../4"]', '["3"', "\xff", "[" * 10**5])
def test_a_damaged_list_is_named_with_what_to_do(text: str, tmp_path: Path) -> None:
    point_to(tmp_path, "autoint_mlp", "1")
    point_to(tmp_path, "autoint", "1")
    path = archive(tmp_path, "autoint") / "champions.json"
    path.write_text(text, "latin-1")
    home = UPath(tmp_path)
    for read in (ModelArchive(home, DATASET, "autoint").champion, lambda: published_versions(home, DATASET)):
        with pytest.raises(DataError, match=rf"{path}: expected a JSON list of version numbers .* restore it"):
            read()
    assert archived_datasets(home) == [DATASET]
    assert archived_models(home, DATASET) == ["autoint", "autoint_mlp"]


def test_published_are_the_models_with_a_champion(tmp_path: Path) -> None:
    home = UPath(tmp_path)
    assert (published_datasets(home), published_models(home, DATASET)) == ([], [])
    with pytest.raises(NotFoundError, match=r"no model is published under .* \(make run\)"):
        chosen_dataset(home, None)
    point_to(tmp_path, "b", "2")
    point_to(tmp_path, "a", "1")
    point_to(tmp_path, "never")
    (tmp_path / "archive" / "films" / "a" / "1").mkdir(parents=True)
    assert (published_datasets(home), published_models(home, DATASET)) == ([DATASET], ["a", "b"])
    assert {name: champion.number for name, champion in published_versions(home, DATASET).items()} == {
        "a": "1",
        "b": "2",
    }
    assert chosen_dataset(home, None) == chosen_dataset(home, DATASET) == DATASET
    with pytest.raises(NotFoundError, match="no model of data set 'films' is published; there are data sets small"):
        chosen_dataset(home, "films")


@pytest.mark.parametrize(
    "text", ["", "[" * 10**5, "[]", '{"metrics": {"auc": "x"}}', f'{{"metrics": {{"auc": {"9" * 400}}}}}', "\xff"]
)
def test_a_damaged_record_is_named_with_what_to_do(text: str, tmp_path: Path) -> None:
    record = archive(tmp_path, "autoint") / "1" / "version.json"
    record.parent.mkdir(parents=True)
    record.write_text(text, "latin-1")
    version = ModelArchive(UPath(tmp_path), DATASET, "autoint").version("1")
    with pytest.raises(DataError, match=rf"{record}: expected the metrics of a version, .* publish it again"):
        version.metrics()
