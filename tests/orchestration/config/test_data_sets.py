"""Partition keys, and which source each data set of a home has."""

import json
import re
from pathlib import Path

import pytest

from ml.errors import DataError
from orchestration.config.data_sets import (
    DataSet,
    LastSource,
    default_data_set,
    register,
    remember,
    resolved_source,
    scheduled_data_sets,
    scheduled_names,
    source_of,
    sources,
)


def directory(tmp_path: Path, name: str) -> Path:
    folder = tmp_path / name
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("key", "data_set"),
    [
        ("ml-1m", DataSet("ml-1m")),
        ("ml-1m+temporal", DataSet("ml-1m", "temporal")),
        ("ml-1m-temporal", DataSet("ml-1m-temporal")),  # a directory may be called so
        ("ml-1m-temporal+paper", DataSet("ml-1m-temporal", "paper")),
    ],
)
def test_a_partition_key_is_name_and_split(key: str, data_set: DataSet) -> None:
    assert DataSet.parse(key) == data_set
    assert data_set.key == key


@pytest.mark.parametrize("key", ["", "+temporal", "ml-1m+", "ml-1m+random", "ml-1m+by_user", "ml-1m+temporal+paper"])
def test_any_other_partition_key_is_refused(key: str) -> None:
    with pytest.raises(DataError, match=r"^partition '.*'; expected .* \+sequential, \+temporal, \+paper$"):
        DataSet.parse(key)


@pytest.mark.parametrize("name", ["ml-1m+temporal", "ML-1M@Paper", "a  b"])
def test_no_directory_is_called_like_a_split(name: str, tmp_path: Path) -> None:
    key = resolved_source(str(tmp_path / name)).dataset
    assert DataSet.parse(key) == DataSet(key, "random")


def test_a_home_knows_where_the_files_of_each_data_set_are(tmp_path: Path) -> None:
    films, shows = directory(tmp_path, "a/films"), directory(tmp_path, "b/shows")
    assert (register(str(films)), register(str(shows)), register("synthetic")) == ("films", "shows", "synthetic")
    assert source_of("films") == resolved_source(str(films))
    assert source_of("shows") == resolved_source(str(shows))
    assert source_of("synthetic") == resolved_source("synthetic")
    assert json.loads((tmp_path / "home" / "sources.json").read_text()) == {"films": str(films), "shows": str(shows)}
    with pytest.raises(DataError, match="data set songs is unknown in this home; expected one of films, shows, ml-1"):
        source_of("songs")


@pytest.mark.parametrize("name", ["films", "Films"])
def test_a_second_directory_of_the_same_name_is_refused(name: str, tmp_path: Path) -> None:
    first, second = directory(tmp_path, "a/films"), directory(tmp_path, f"b/{name}")
    register(str(first))
    with pytest.raises(DataError) as raised:
        register(str(second))
    assert str(raised.value).startswith(
        f"{second}: this home has a data set films already, whose raw files are in {first};"
    )
    assert source_of("films") == resolved_source(str(first))


def test_a_link_and_a_directory_that_has_moved_are_the_same_data_set(tmp_path: Path) -> None:
    first = directory(tmp_path, "a/films")
    register(str(first))
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "films").symlink_to(first)
    assert register(str(tmp_path / "b" / "films")) == "films"
    (tmp_path / "c").mkdir()
    moved = first.rename(tmp_path / "c" / "films")
    assert register(str(moved)) == "films"
    assert source_of("films") == resolved_source(str(moved))


def test_a_home_of_an_earlier_release_has_the_source_of_its_last_run(tmp_path: Path) -> None:
    first, second = directory(tmp_path, "a/films"), directory(tmp_path, "b/films")
    remember(LastSource(str(first)))
    assert sources() == {"films": str(first)}
    with pytest.raises(DataError, match="a data set films already"):
        register(str(second))
    assert default_data_set() == "films"
    remember(LastSource("synthetic"))
    assert sources() == {"films": str(first), "synthetic": "synthetic"}


def test_the_official_data_may_be_a_directory(tmp_path: Path) -> None:
    own = directory(tmp_path, "ml-1m")
    for spec in ("ml-1m", str(own), "ml-1m"):
        assert register(spec) == "ml-1m"
        assert source_of("ml-1m") == resolved_source(spec)


def test_a_name_that_is_a_range_in_dagster_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a data set cannot contain '\.\.\.'"):
        register(str(tmp_path / "a...b"))


def test_damaged_sources_are_named(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "sources.json").write_text("[1]")
    with pytest.raises(DataError, match=r"sources\.json: expected the source of each data set by its name"):
        source_of("films")


def test_the_schedule_runs_the_last_data_set_or_those_that_are_switched_on(
    tmp_path: Path, env: pytest.MonkeyPatch
) -> None:
    assert scheduled_data_sets() == ("ml-1m",)
    films = directory(tmp_path, "films")
    remember(LastSource(str(films)))
    assert scheduled_data_sets() == ("films",)
    env.setenv("SCHEDULE_DATASETS", "synthetic, films")
    assert scheduled_data_sets() == ("synthetic", "films")
    for wrong in ("films+temporal", "songs", ""):  # the schedule's job publishes, which only the random split does
        env.setenv("SCHEDULE_DATASETS", f"films,{wrong}")
        with pytest.raises(DataError, match=f"data set {re.escape(wrong)} is unknown in this home"):
            scheduled_data_sets()


def test_to_name_the_scheduled_data_sets_changes_nothing_in_the_home(tmp_path: Path, env: pytest.MonkeyPatch) -> None:
    env.setenv("MOVIELENS_DIR", str(directory(tmp_path, "films")))
    assert scheduled_names() == ("films",)
    assert not (tmp_path / "home").exists()
    env.setenv("SCHEDULE_DATASETS", "songs, films")
    assert scheduled_names() == ("songs", "films")
    assert not (tmp_path / "home").exists()
