import os
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import pytest

from ml.files import digest
from orchestration.config.data_sets import register
from orchestration.resources.raw_data import RawData
from orchestration.tracking.bundles import BundleCopies
from orchestration.tracking.registered_version import BUNDLE_DIGEST, RegisteredVersion
from orchestration.tracking.resource import Tracking

BUNDLE = b"network and encoders"
VERSION = RegisteredVersion("autoint", "films-autoint", "1", "run", "m-1")


class Mlflow(Tracking):
    """Has one version, and writes down each download."""

    def tags_of(self, version: RegisteredVersion) -> Mapping[str, str]:
        path = Path(self.raw_data.source.spec, "digest")
        return {BUNDLE_DIGEST: path.read_text()} if path.exists() else {}

    def _download(self, uri: str) -> bytes:
        with Path(self.raw_data.source.spec, "downloads").open("a") as downloads:
            downloads.write(f"{uri}\n")
        return BUNDLE


@pytest.fixture
def films(tmp_path: Path) -> Path:
    folder = tmp_path / "films"
    folder.mkdir()
    (folder / "digest").write_text(digest(BUNDLE))
    return folder


@pytest.fixture
def mlflow(films: Path) -> Mlflow:
    return Mlflow(raw_data=RawData.of(register(str(films))))


def downloads(films: Path) -> list[str]:
    path = films / "downloads"
    return path.read_text().splitlines() if path.exists() else []


def copies(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "home" / "bundles").rglob("*.zip"))


def test_what_the_training_stored_is_not_downloaded(mlflow: Mlflow, films: Path) -> None:
    BundleCopies("films", "autoint").store(VERSION.model_id, BUNDLE)
    assert mlflow.bundle_file(VERSION) == BUNDLE
    assert downloads(films) == []


def test_it_is_downloaded_once_where_nothing_was_stored(mlflow: Mlflow, films: Path) -> None:
    assert [mlflow.bundle_file(VERSION) for _ in range(4)] == [BUNDLE] * 4
    assert downloads(films) == ["models:/films-autoint/1/artifacts/bundle.zip"]


@pytest.mark.parametrize("damage", [b"", BUNDLE[:-1], b"N" + BUNDLE[1:]])
def test_a_damaged_copy_is_reported_and_downloaded_again(
    mlflow: Mlflow, films: Path, tmp_path: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    BundleCopies("films", "autoint").store(VERSION.model_id, damage)
    [path] = copies(tmp_path)
    with caplog.at_level("WARNING", "dagster"):
        assert mlflow.bundle_file(VERSION) == BUNDLE
    assert downloads(films) == ["models:/films-autoint/1/artifacts/bundle.zip"]
    assert path.read_bytes() == BUNDLE
    assert mlflow.bundle_file(VERSION) == BUNDLE
    assert len(downloads(films)) == 1


def test_a_damaged_file_in_mlflow_is_an_error_and_not_stored(mlflow: Mlflow, films: Path, tmp_path: Path) -> None:
    (films / "digest").write_text(digest(b"what was logged"))
    with pytest.raises(dg.Failure) as caught:
        mlflow.bundle_file(VERSION)
    assert caught.value.allow_retries is False
    assert caught.value.description
    assert "models:/films-autoint/1: artifacts/bundle.zip in MLflow is damaged" in caught.value.description
    assert copies(tmp_path) == []


@pytest.mark.parametrize(("archived", "expected"), [(BUNDLE, 0), (b"of another version", 1)])
def test_the_archive_s_copy_is_used_where_it_is_the_logged_file(
    mlflow: Mlflow, films: Path, tmp_path: Path, archived: bytes, expected: int
) -> None:
    folder = tmp_path / "home" / "archive" / "films" / "autoint" / VERSION.version
    folder.mkdir(parents=True)
    (folder / "bundle.zip").write_bytes(archived)
    assert mlflow.bundle_file(VERSION) == BUNDLE
    assert len(downloads(films)) == expected


def test_without_a_digest_no_copy_is_trusted(mlflow: Mlflow, films: Path, tmp_path: Path) -> None:
    (films / "digest").unlink()  # a version of an earlier release
    BundleCopies("films", "autoint").store(VERSION.model_id, b"anything")
    assert [mlflow.bundle_file(VERSION) for _ in range(2)] == [BUNDLE] * 2
    assert len(downloads(films)) == 2


def test_copies_do_not_grow_without_bound_and_a_used_one_stays(mlflow: Mlflow, films: Path, tmp_path: Path) -> None:
    stored = BundleCopies("films", "autoint")
    for night, model_id in enumerate(["m-2", "m-1", "m-3"]):
        stored.store(model_id, BUNDLE)
        os.utime(tmp_path / f"home/bundles/films/autoint/{model_id}.zip", (night, night))
    assert [path.stem for path in copies(tmp_path)] == ["m-1", "m-3"]
    mlflow.bundle_file(VERSION)  # the champion, though older
    stored.store("m-4", BUNDLE)
    assert [path.stem for path in copies(tmp_path)] == ["m-1", "m-4"]
    BundleCopies("films", "autoint_mlp").store("m-5", BUNDLE)
    assert len(copies(tmp_path)) == 3
