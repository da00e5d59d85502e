import re
from pathlib import Path

import pytest

from ml import schema
from ml.data.datasets import load_datasets
from ml.data.movielens import MOVIELENS_1M
from ml.data.movielens_tables import preprocess_movies, preprocess_users
from ml.data.source import Source
from ml.data.synthetic import SIZES
from ml.errors import DataError
from ml.features.tables import join_interactions, preprocess_ratings
from orchestration.config.settings import PROJECT_ROOT
from tests.feature_maps import fitted

DATASETS = load_datasets(PROJECT_ROOT / "datasets.yaml")


def source_of(spec: str) -> Source:
    return Source(spec, DATASETS)


@pytest.mark.parametrize(
    ("spec", "dataset"),
    [
        ("ml-1m", "ml-1m"),
        ("synthetic", "synthetic"),
        ("synthetic-small", "synthetic-small"),
        ("/data/films", "films"),
        ("/data/films/", "films"),
        ("films/../tapes", "tapes"),
        ("/data/ml-1m", "ml-1m"),
        ("/data/My Films (2003)", "my-films-2003"),
        ("/data/.Hidden_v1.2", "hidden_v1.2"),
    ],
)
def test_dataset_is_named_after_its_directory(spec: str, dataset: str) -> None:
    assert source_of(spec).dataset == dataset


@pytest.mark.parametrize(
    "spec", ["/data/synthetic", "./synthetic-small", "/data/Synthetic", "/", "/data/---", "/data/éé"]
)
def test_reserved_and_unusable_names_are_refused(spec: str) -> None:
    with pytest.raises(DataError, match="rename the directory") as caught:
        _ = source_of(spec).dataset
    assert str(caught.value).startswith(f"{spec}: ")


@pytest.mark.parametrize("spec", ["ml-1m", "/data/ml-1m"])
def test_size_of_the_official_data_is_known(spec: str) -> None:
    size = source_of(spec).known_size
    assert (size.users, size.movies, size.ratings) == (6040, 3883, 1_000_209)
    assert size.field_dims == (6040, 3706, 10, 81, 4, 12, 1, 18, 18, 16, 2, 7, 21, 3439)


def test_size_of_other_data_is_unknown() -> None:
    assert source_of("/data/films").known_size == schema.DatasetSize()


def test_synthetic_data_is_prepared_in_its_known_size(tmp_path: Path) -> None:
    source = source_of("synthetic-small")
    directory = source.prepare(tmp_path)
    assert directory == tmp_path / "synthetic-small"
    assert sorted(path.name for path in directory.iterdir()) == sorted(MOVIELENS_1M.names)

    raw, size = MOVIELENS_1M.read(directory), source.known_size
    assert (len(raw.users), len(raw.movies), len(raw.ratings)) == (size.users, size.movies, size.ratings)
    tables = preprocess_users(raw.users), preprocess_movies(raw.movies), preprocess_ratings(raw.ratings)
    assert fitted(join_interactions(*tables)).field_dims == size.field_dims


def test_preparing_synthetic_data_again_returns_the_same_bytes(tmp_path: Path) -> None:
    directories = [source_of("synthetic-small").prepare(tmp_path / name) for name in ("one", "two")]
    first, second = ([(d / name).read_bytes() for name in MOVIELENS_1M.names] for d in directories)
    assert first == second


def test_sizes_of_all_generated_data_are_known() -> None:
    for name, size in SIZES.items():
        known = source_of(name).known_size
        assert known.ratings == size.ratings
        assert known.field_dims is not None
        assert known.field_dims[:2] == (size.users, size.rated_movies)


def test_a_directory_is_used_in_place(small_raw_directory: Path, tmp_path: Path) -> None:
    assert source_of(str(small_raw_directory)).prepare(tmp_path) == small_raw_directory
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("make", [False, True], ids=["missing", "file"])
def test_missing_directory_says_what_to_set(tmp_path: Path, make: bool) -> None:
    path = tmp_path / "films"
    if make:
        path.write_text("not a directory")
    with pytest.raises(DataError) as caught:
        assert source_of(str(path)).format
    message = str(caught.value)
    assert message.startswith(f"{path}: no such directory; set MOVIELENS_DIR")
    assert "ml-1m, ml-10m" in message
    assert message.endswith("synthetic, synthetic-small, synthetic-1m, synthetic-4m, synthetic-16m, synthetic-32m")


def test_format_of_named_data_needs_no_files() -> None:
    assert all(source_of(name).format is MOVIELENS_1M for name in ("ml-1m", "synthetic", "synthetic-small"))


def test_a_directory_named_like_the_official_data_has_its_format(tmp_path: Path) -> None:
    (tmp_path / "ml-1m").mkdir()
    assert source_of(str(tmp_path / "ml-1m")).format is MOVIELENS_1M
    with pytest.raises(DataError, match="no such directory; set MOVIELENS_DIR"):
        assert source_of(str(tmp_path / "other" / "ml-1m")).format


@pytest.mark.parametrize("spec", ["..", "../..", "a/../b", "x/../..", "..hidden", "a b/c\nd", "é/ü-1", "-x."])
def test_no_name_leads_out_of_a_directory(spec: str, tmp_path: Path) -> None:
    name = source_of(str(tmp_path / spec)).dataset
    assert re.fullmatch(r"[a-z0-9_][a-z0-9._-]*", name)
    assert name == Path(name).name


@pytest.mark.parametrize("spec", ["/", "/tmp/é", "/tmp/.-."])
def test_a_directory_without_a_usable_name_is_refused(spec: str) -> None:
    with pytest.raises(DataError, match="a data set cannot be named ''; rename the directory"):
        assert source_of(spec).dataset
