"""Files in a store of objects, which has neither renames nor directories."""

import json
from collections.abc import Iterator
from typing import Any

import pandas as pd
import pytest
from s3fs import S3FileSystem
from upath import UPath

from ml import files
from ml.data.blocks import BlockWriter
from ml.errors import DataError
from ml.files import content, create, replace_files, write_atomically
from ml.published.champions import ModelArchive, published_models
from orchestration.config import writer
from orchestration.config.writer import claim_home
from orchestration.tracking.publication import Publication
from tests.environment import Environment
from tests.object_store import object_store
from tests.orchestration.tracking.test_publication import NAME, VERSIONS, Registry

TABLE = pd.DataFrame({"user_id": range(1000), "movie_id": range(1000)})


@pytest.fixture(scope="module")
def bucket() -> Iterator[UPath]:
    with Environment.context() as env, object_store(env) as made:
        yield made


@pytest.fixture
def home(bucket: UPath, request: pytest.FixtureRequest) -> UPath:
    return bucket / request.node.name.replace("[", "-").strip("]")


def names(folder: UPath) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_an_object_is_written_in_place(home: UPath) -> None:
    path = home / "deep" / "file.bin"
    for data in (b"a long first content", b"second"):
        write_atomically(path, data)
        assert content(path) == data
        assert names(home) == ["file.bin"]


def test_no_bucket_is_made(bucket: UPath) -> None:
    with pytest.raises(FileNotFoundError):
        write_atomically(UPath("s3://mistyped/home/file.bin"), b"data")
    assert S3FileSystem().ls("") == [bucket.name or bucket.drive or str(bucket).removeprefix("s3://").rstrip("/")]


def test_objects_are_written_in_the_given_order(home: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    original = files._put

    def full(path: UPath, data: bytes) -> None:
        if path.name == "pointer":
            raise OSError("quota")
        written.append(path.name)
        original(path, data)

    monkeypatch.setattr(files, "_put", full)
    with pytest.raises(OSError, match="quota"):
        replace_files({home / "table": b"1", home / "bundle": b"2", home / "pointer": b"3", home / "copy": b"4"})
    assert written == ["table", "bundle"]
    assert names(home) == ["bundle", "table"]


def test_what_another_process_writes_is_seen_after_a_listing(home: UPath) -> None:
    path = home / "a" / "file.bin"
    write_atomically(path, b"old")
    assert [each.name for each in path.parent.iterdir()] == ["file.bin"]
    S3FileSystem(skip_instance_cache=True).pipe_file(path.path, b"longer than before")
    S3FileSystem(skip_instance_cache=True).pipe_file((home / "a" / "other.bin").path, b"new")
    assert content(path) == b"longer than before"
    assert path.stat().st_size == 18
    assert names(home) == ["file.bin", "other.bin"]


def test_an_object_that_is_replaced_while_it_is_read_is_told(home: UPath) -> None:
    path = home / "file.bin"
    write_atomically(path, b"a" * 10_000_000)
    with path.open("rb", block_size=2**16) as file:  # several requests, as for a large object
        assert file.read(10) == b"a" * 10
        write_atomically(path, b"b" * 10_000_000)
        with pytest.raises(OSError, match="no longer exists"):
            file.read()


def test_a_table_is_there_only_after_its_commit(home: UPath) -> None:
    path = home / "table.parquet"
    with BlockWriter(path) as table:
        table.append(TABLE)
        assert not path.exists()
        table.commit()
    with path.open("rb") as file:
        pd.testing.assert_frame_equal(pd.read_parquet(file), TABLE)
    before = content(path)
    with BlockWriter(path) as table:
        table.append(TABLE.head(1))
        table.finish()
    assert content(path) == before
    uploads = S3FileSystem().call_s3("list_multipart_uploads", Bucket=path.path.split("/")[0])
    assert not uploads.get("Uploads")
    assert names(home) == ["table.parquet"]


def test_of_two_that_create_an_object_one_succeeds(home: UPath) -> None:
    path = home / "claim"
    assert create(path, b"mine")
    assert not create(path, b"yours")
    assert content(path) == b"mine"


def test_two_checkouts_claim_a_home_and_one_is_refused(
    home: UPath, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("PIPELINE_HOME", str(home))
    claim_home()
    claim_home()
    monkeypatch.setenv("PIPELINE_LOCAL_HOME", str(tmp_path))
    # As of two at once: this one has not seen the other's claim when it writes its own.
    monkeypatch.setattr(type(home), "exists", lambda path: False)
    with pytest.raises(DataError, match=f"this is the checkout .* with its local files in {tmp_path}"):
        claim_home()


def test_a_store_that_ignores_the_condition_is_refused(home: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    def ignoring(path: UPath, data: bytes) -> bool:
        write_atomically(path, data)
        return True

    monkeypatch.setenv("PIPELINE_HOME", str(home))
    monkeypatch.setattr(writer, "create", ignoring)
    with pytest.raises(DataError, match="expected one that supports conditional writes"):
        claim_home()
    assert not (home / "writer.json").exists()


@pytest.fixture
def publication(home: UPath) -> Publication:
    client: Any = Registry()
    return Publication(home, "films", "autoint", NAME, client, "champion")


def published(home: UPath) -> tuple[bytes, bytes]:
    champion = ModelArchive(home, "films", "autoint").champion()
    assert champion
    return content(champion.table), content(champion.bundle)


def test_a_publication_changes_no_file_that_a_reader_follows(publication: Publication, home: UPath) -> None:
    publication.publish(VERSIONS["1"], b"table", b"bundle")
    first = publication.archive.champion()
    assert first
    assert first.number == "1"
    publication.publish(VERSIONS["1"], b"another table", b"another bundle", {"auc": 0.8})
    assert (content(first.table), content(first.bundle)) == (b"table", b"bundle")
    assert published(home) == (b"another table", b"another bundle")
    assert publication.archive.version("1").metrics() == {"auc": 0.8}
    publication.publish(VERSIONS["1"], b"third table", b"another bundle", {"auc": 0.8})
    assert not first.table.exists()  # nobody can have read a pointer to it any more
    assert published_models(home, "films") == ["autoint"]
    assert publication.sync() == []


def test_a_failed_publication_leaves_the_old_one(
    publication: Publication, home: UPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    publication.publish(VERSIONS["1"], b"table", b"bundle")
    original = files._put
    for broken in ("bundle-", "top10-", "champions.json"):

        def failing(path: UPath, data: bytes, broken: str = broken) -> None:
            if path.name.startswith(broken):
                raise OSError("no connection")
            original(path, data)

        with monkeypatch.context() as patch:
            patch.setattr(files, "_put", failing)
            with pytest.raises(OSError, match="no connection"):
                publication.publish(VERSIONS["1"], b"new table " + broken.encode(), b"new bundle " + broken.encode())
        assert published(home) == (b"table", b"bundle")


def test_rollback_and_removal(publication: Publication, home: UPath) -> None:
    for number in ("1", "2", "3"):
        publication.publish(VERSIONS[number], f"table {number}".encode(), f"bundle {number}".encode())
    publication.go_back("1")
    assert published(home) == (b"table 1", b"bundle 1")
    assert content(publication.table) == b"table 1"
    publication.forget("2")
    assert publication.archive.versions() == ["1", "3"]
    assert publication.archive.champions() == ["3", "1"]
    assert not (publication.archive.folder / "2").exists()


def test_a_home_that_was_written_before_is_read_and_goes_on(publication: Publication, home: UPath) -> None:
    folder = publication.archive.folder
    old = {"1/top10.parquet": b"old table", "1/bundle.zip": b"old bundle", "champions.json": b'["1"]'}
    replace_files({folder / name: data for name, data in old.items()})
    assert published(home) == (b"old table", b"old bundle")
    publication.publish(VERSIONS["2"], b"table 2", b"bundle 2")
    assert publication.archive.versions() == ["1", "2"]
    publication.go_back("1")
    assert published(home) == (b"old table", b"old bundle")
    assert json.loads(content(publication.archive.pointer))["files"].keys() == {"2"}


@pytest.mark.parametrize("name", ["../../other", ".hidden", "a/b", 1])
def test_a_pointer_to_files_elsewhere_is_refused(publication: Publication, name: Any) -> None:
    named = {"1": {"table": name, "bundle": "bundle.zip", "record": "version.json"}}
    write_atomically(publication.archive.pointer, json.dumps({"champions": ["1"], "files": named}).encode())
    with pytest.raises(DataError, match="expected a JSON list of version numbers"):
        publication.archive.champion()
