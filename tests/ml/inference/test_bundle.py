import io
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from upath import UPath

from ml.errors import DataError
from ml.inference.bundle import ModelBundle

STARTS = {".keras": b"PK", ".h5": b"\x89HDF", ".json": b"{", ".parquet": b"PAR1"}


@pytest.fixture(scope="module")
def saved(bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundle") / "model.zip"
    bundle.save(path)
    return path


def members(data: bytes) -> dict[str, bytes]:
    """Contents of a zip archive, those of the zip archives within it included."""
    found: dict[str, bytes] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            found[name] = archive.read(name)
            if found[name].startswith(b"PK"):
                found |= members(found[name])
    return found


def codes(bundle: ModelBundle) -> np.ndarray:
    return np.random.default_rng(0).integers(0, bundle.feature_map.field_dims, size=(50, 14), dtype=np.int32)


def assert_equal_bundles(loaded: ModelBundle, bundle: ModelBundle) -> None:
    np.testing.assert_array_equal(loaded.network(codes(bundle)), bundle.network(codes(bundle)))
    assert loaded.feature_map == bundle.feature_map
    pd.testing.assert_frame_equal(loaded.users, bundle.users)
    pd.testing.assert_frame_equal(loaded.movies, bundle.movies)


def test_round_trip(bundle: ModelBundle, saved: Path) -> None:
    assert_equal_bundles(ModelBundle.load(saved), bundle)


def test_loads_from_other_file_systems(bundle: ModelBundle, saved: Path) -> None:
    path = UPath("memory://bundles/model.zip")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(saved.read_bytes())
    try:
        assert_equal_bundles(ModelBundle.load(path), bundle)
    finally:
        path.unlink()


def test_file_is_a_zip_without_pickles(saved: Path) -> None:
    contents = members(saved.read_bytes())
    assert {"network.keras", "feature_map.json", "users.parquet", "movies.parquet"} <= contents.keys()
    for name, content in contents.items():
        assert content.startswith(STARTS[Path(name).suffix]), name


def test_holds_the_rated_movies_and_all_users_by_id(
    bundle: ModelBundle, small_interactions: pd.DataFrame, small_movies: pd.DataFrame, small_users: pd.DataFrame
) -> None:
    rated = sorted(set(small_interactions["movie_id"]))
    assert bundle.movies["movie_id"].tolist() == rated
    assert len(rated) < len(small_movies)
    assert bundle.users["user_id"].tolist() == sorted(small_users["user_id"])
    row = small_movies[small_movies["movie_id"] == rated[7]].iloc[0]
    assert bundle.movies.iloc[7].to_dict() == row.to_dict()


def foreign_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("feature_map.json", "{}")
    return buffer.getvalue()


def test_foreign_zip(tmp_path: Path) -> None:
    path = tmp_path / "foreign.zip"
    path.write_bytes(foreign_zip())
    with pytest.raises(DataError, match=r"foreign\.zip.*lacks movies\.parquet, network\.keras, users\.parquet"):
        ModelBundle.load(path)


@pytest.mark.parametrize("damage", ["empty", "text", "truncated", "changed network", "changed table"])
def test_damaged_file(damage: str, saved: Path, tmp_path: Path) -> None:
    data = saved.read_bytes()
    table_end = data.rindex(b"PAR1")
    damaged = {
        "empty": b"",
        "text": b"no archive at all",
        "truncated": data[: len(data) // 2],
        "changed network": data[:200] + bytes([data[200] ^ 255]) + data[201:],
        "changed table": data[:table_end] + b"RAP1" + data[table_end + 4 :],
    }[damage]
    path = tmp_path / "damaged.zip"
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"damaged\.zip.*not a model bundle"):
        ModelBundle.load(path)


def test_missing_file_names_its_path(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.zip"):
        ModelBundle.load(tmp_path / "absent.zip")
