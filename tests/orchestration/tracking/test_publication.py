import contextlib
import errno
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, RESOURCE_DOES_NOT_EXIST
from upath import UPath

from ml.errors import DataError, NotFoundError
from ml.published.champions import ModelArchive
from orchestration.tracking.publication import Publication, found_in_registry
from orchestration.tracking.registered_version import RegisteredVersion

NAME = "films-autoint"


@dataclass
class Registry:
    """What a publication asks of MLflow's client."""

    aliases: dict[str, str] = field(default_factory=dict)
    answers: bool = True

    def get_registered_model(self, name: str) -> SimpleNamespace:
        assert name == NAME
        if not self.answers:
            raise ConnectionError("no route to the registry")
        return SimpleNamespace(aliases=dict(self.aliases))

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self.aliases[alias] = version


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def publication(tmp_path: Path, registry: Registry) -> Publication:
    client: Any = registry
    return Publication(UPath(tmp_path), "films", "autoint", NAME, client, "champion")


VERSIONS = {number: RegisteredVersion("autoint", NAME, number, "run", "model") for number in ("1", "2", "3")}


def publish(publication: Publication, number: str) -> None:
    publication.publish(VERSIONS[number], f"table {number}".encode(), f"bundle {number}".encode())


def read(home: Path) -> tuple[str, str]:
    """The table and bundle of the champion, as a reader finds them."""
    champion = ModelArchive(UPath(home), "films", "autoint").champion()
    assert champion
    return champion.table.read_text(), champion.bundle.read_text()


def exported(home: Path) -> str:
    return (home / "tables/films/top10_autoint.parquet").read_text()


def temporary_files(home: Path) -> list[str]:
    return [path.name for path in home.rglob(".*")]


def test_what_the_registry_does_not_have_is_none_and_other_errors_stay() -> None:
    def refuse(code: int) -> None:
        raise MlflowException("refused", code)

    assert found_in_registry(lambda: "films-autoint") == "films-autoint"
    assert found_in_registry(lambda: refuse(RESOURCE_DOES_NOT_EXIST)) is None
    with pytest.raises(MlflowException, match="refused"):
        found_in_registry(lambda: refuse(INTERNAL_ERROR))


def test_a_version_is_published_whole(publication: Publication, registry: Registry, tmp_path: Path) -> None:
    assert publication.champion() is None
    assert publication.sync() == []
    for number in ("1", "2"):
        publish(publication, number)
        assert read(tmp_path) == (f"table {number}", f"bundle {number}")
        assert exported(tmp_path) == f"table {number}"
        assert (publication.champion(), registry.aliases) == (number, {"champion": number})
    assert publication.archive.champions() == publication.archive.versions() == ["1", "2"]
    assert publication.sync() == temporary_files(tmp_path) == []


def test_a_champions_new_table_replaces_the_old_one(publication: Publication, tmp_path: Path) -> None:
    publish(publication, "1")
    publication.publish(VERSIONS["1"], b"tomorrow's table", b"bundle 1")
    assert read(tmp_path) == ("tomorrow's table", "bundle 1")
    assert exported(tmp_path) == "tomorrow's table"
    assert publication.archive.champions() == ["1"]


def test_rollback_publishes_the_earlier_champions_table(
    publication: Publication, registry: Registry, tmp_path: Path
) -> None:
    for number in ("1", "2", "3"):
        publish(publication, number)
    publication.go_back("1")
    assert read(tmp_path) == ("table 1", "bundle 1")
    assert (exported(tmp_path), registry.aliases) == ("table 1", {"champion": "1"})
    assert publication.archive.champions() == ["2", "3", "1"]


def test_no_rollback_to_a_version_that_is_not_kept(publication: Publication, tmp_path: Path) -> None:
    publish(publication, "1")
    publish(publication, "2")
    publication.forget("1")
    with pytest.raises(NotFoundError, match="no table of version 1 of films-autoint is kept; kept are 2"):
        publication.go_back("1")
    assert read(tmp_path) == ("table 2", "bundle 2")
    assert publication.archive.champions() == ["2"]
    with pytest.raises(ValueError, match="version 2 of films-autoint is published"):
        publication.forget("2")


def test_a_registry_that_does_not_answer_changes_nothing(
    publication: Publication, registry: Registry, tmp_path: Path
) -> None:
    publish(publication, "1")
    registry.answers = False
    with pytest.raises(ConnectionError):
        publish(publication, "2")
    assert (read(tmp_path), exported(tmp_path)) == (("table 1", "bundle 1"), "table 1")
    assert publication.archive.versions() == ["1"]
    registry.answers = True
    assert publication.sync() == []


@pytest.mark.parametrize("written", range(5))
def test_a_full_disk_changes_nothing(
    publication: Publication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int
) -> None:
    publish(publication, "1")
    count, write = itertools.count(), type(publication.table).write_bytes

    def limited(self: UPath, data: bytes) -> int:
        if next(count) == written:
            raise OSError(errno.ENOSPC, "no space left on device")
        return write(self, data)

    with monkeypatch.context() as patch:
        patch.setattr(type(publication.table), "write_bytes", limited)
        with pytest.raises(OSError, match="no space left"):
            publish(publication, "2")
    assert (read(tmp_path), exported(tmp_path)) == (("table 1", "bundle 1"), "table 1")
    assert publication.sync() == temporary_files(tmp_path) == []


class Killed(BaseException):
    """The process ends here."""


@contextlib.contextmanager
def killed_after(operations: int, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The process ends before one of the operations that change something: a write, a rename, a change of the alias."""
    count = itertools.count()

    def limited(original: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*arguments: Any) -> Any:
            if next(count) >= operations:
                raise Killed
            return original(*arguments)

        return operation

    files: Any = type(UPath("/"))
    with monkeypatch.context() as patch:
        for owner, name in ((files, "write_bytes"), (files, "rename"), (Registry, "set_registered_model_alias")):
            patch.setattr(owner, name, limited(getattr(owner, name)))
        with contextlib.suppress(Killed):
            yield


@pytest.mark.parametrize("operations", range(12))  # five writes, five renames, the alias, and one where all is done
@pytest.mark.parametrize("change", ["publish", "go back"])
def test_readers_find_a_whole_publication_after_a_crash_and_the_next_run_repairs_the_mirrors(
    publication: Publication,
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    operations: int,
    change: str,
) -> None:
    for number in ("2", "1") if change == "go back" else ("1",):
        publish(publication, number)
    with killed_after(operations, registry, monkeypatch):
        publish(publication, "2") if change == "publish" else publication.go_back("2")
    number = publication.champion()
    assert read(tmp_path) == (f"table {number}", f"bundle {number}")
    assert exported(tmp_path) in ("table 1", f"table {number}")
    assert registry.aliases["champion"] in ("1", number)
    publication.sync()
    assert (exported(tmp_path), registry.aliases) == (f"table {number}", {"champion": number})
    assert publication.sync() == []
    publish(publication, "2")  # the asset's retry
    assert (read(tmp_path), exported(tmp_path)) == (("table 2", "bundle 2"), "table 2")
    assert publication.archive.champions() == ["1", "2"]


def test_mirrors_that_a_person_changed_are_repaired(
    publication: Publication, registry: Registry, tmp_path: Path
) -> None:
    publish(publication, "1")
    publish(publication, "2")
    publication.table.unlink()
    registry.aliases["champion"] = "1"
    told = [
        "top10_autoint.parquet is not the table of autoint's champion, version 2",
        "the alias of autoint's champion is at version 1; it is set to version 2, whose table is published",
    ]
    assert list(publication.differences()) == publication.sync() == told
    assert (exported(tmp_path), registry.aliases) == ("table 2", {"champion": "2"})


def test_a_table_that_is_missing_from_the_archive_leaves_the_exported_one(
    publication: Publication, tmp_path: Path
) -> None:
    publish(publication, "1")
    table = tmp_path / "archive/films/autoint/1/top10.parquet"
    table.unlink()
    assert publication.sync() == [f"{table.parent} lacks the table or the bundle of autoint's champion"]
    assert exported(tmp_path) == "table 1"


@pytest.mark.parametrize(
    "content", [b"", b"[" * 10**5, b"[]", b'{"version": 1}', b'{"version": {"model": "a"}}', b"\xff"]
)
def test_a_damaged_record_of_a_version_is_named_with_what_to_do(publication: Publication, content: bytes) -> None:
    publish(publication, "1")
    assert publication.recorded("1") == VERSIONS["1"]
    record = publication.archive.version("1").record
    record.write_bytes(content)
    with pytest.raises(DataError, match=f"{record}: expected the registered version .* remove it"):
        publication.recorded("1")
    record.unlink()
    assert publication.recorded("1") is None
