import contextlib
import itertools
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, RESOURCE_DOES_NOT_EXIST
from upath import UPath

from ml.errors import NotFoundError
from orchestration.tracking.publication import Publication, found_in_registry, interrupted
from orchestration.tracking.registered_version import RegisteredVersion

NAME = "films-autoint"


@dataclass
class Registry:
    """What a publication asks of MLflow's client."""

    aliases: dict[str, str] = field(default_factory=dict)
    answers: bool = True

    def get_registered_model(self, name: str) -> SimpleNamespace:
        assert name == NAME
        return SimpleNamespace(aliases=dict(self.aliases))

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        if not self.answers:
            raise ConnectionError("no route to the registry")
        self.aliases[alias] = version


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
def publication(tmp_path: Path, registry: Registry) -> Publication:
    client: Any = registry
    return Publication(UPath(tmp_path), "films", "autoint", NAME, client, "champion")


def publish(publication: Publication, number: str) -> None:
    version = RegisteredVersion("autoint", NAME, number, "run", "model")
    publication.publish(version, f"table {number}".encode(), f"bundle {number}".encode())


def live(home: Path) -> tuple[str, str]:
    """The published table and bundle."""
    return (home / "tables/films/top10_autoint.parquet").read_text(), (home / "models/films/autoint.zip").read_text()


def files(home: Path) -> set[str]:
    return {path.name for path in home.rglob("*") if path.is_file()}


def test_what_the_registry_does_not_have_is_none_and_other_errors_stay() -> None:
    def refuse(code: int) -> None:
        raise MlflowException("refused", code)

    assert found_in_registry(lambda: "films-autoint") == "films-autoint"
    assert found_in_registry(lambda: refuse(RESOURCE_DOES_NOT_EXIST)) is None
    with pytest.raises(MlflowException, match="refused"):
        found_in_registry(lambda: refuse(INTERNAL_ERROR))


def test_a_version_is_published_whole(publication: Publication, registry: Registry, tmp_path: Path) -> None:
    assert publication.champion() is None
    for number in ("1", "2"):
        publish(publication, number)
        assert live(tmp_path) == (f"table {number}", f"bundle {number}")
        assert publication.champion() == number
    assert publication.champions() == publication.archived() == ["1", "2"]
    assert list(interrupted(UPath(tmp_path))) == []
    assert not [name for name in files(tmp_path) if name.startswith(".")]


def test_a_champions_new_table_takes_the_old_ones_place(publication: Publication, tmp_path: Path) -> None:
    publish(publication, "1")
    version = RegisteredVersion("autoint", NAME, "1", "run", "model")
    publication.publish(version, b"tomorrow's table", b"bundle 1")
    assert live(tmp_path) == ("tomorrow's table", "bundle 1")
    assert publication.champions() == ["1"]


def test_going_back_brings_the_table_of_then(publication: Publication, tmp_path: Path) -> None:
    for number in ("1", "2", "3"):
        publish(publication, number)
    publication.go_back("1")
    assert live(tmp_path) == ("table 1", "bundle 1")
    assert publication.champion() == "1"
    assert publication.champions() == ["2", "3", "1"]


def test_there_is_no_going_back_to_what_is_not_kept(publication: Publication, tmp_path: Path) -> None:
    publish(publication, "1")
    publish(publication, "2")
    publication.forget("1")
    with pytest.raises(NotFoundError, match="no table of version 1 of films-autoint is kept; kept are 2"):
        publication.go_back("1")
    assert live(tmp_path) == ("table 2", "bundle 2")
    assert publication.champions() == ["2"]


def test_a_registry_that_does_not_answer_changes_nothing(
    publication: Publication, registry: Registry, tmp_path: Path
) -> None:
    publish(publication, "1")
    registry.answers = False
    with pytest.raises(ConnectionError):
        publish(publication, "2")
    assert live(tmp_path) == ("table 1", "bundle 1")
    assert registry.aliases == {"champion": "1"}
    assert list(interrupted(UPath(tmp_path))) == []
    assert publication.finish_interrupted() is None


class Killed(BaseException):
    """The process ends here."""


# Every file operation of a publication, one after the other, is the last one before the end.
@pytest.mark.parametrize("survived", range(16))
def test_whoever_comes_next_completes_what_was_cut_off(
    publication: Publication, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survived: int
) -> None:
    publish(publication, "1")
    count, kind = itertools.count(), type(UPath(tmp_path))
    with monkeypatch.context() as patch:
        for name in ("write_bytes", "rename"):
            original = getattr(kind, name)

            def operation(self: UPath, *arguments: Any, original: Any = original) -> Any:
                if next(count) >= survived:
                    raise Killed
                return original(self, *arguments)

            patch.setattr(kind, name, operation)
        with contextlib.suppress(Killed):
            publish(publication, "2")
    numbers = {text.split()[1] for text in live(tmp_path)}
    assert numbers <= {"1", "2"}
    publication.finish_interrupted()
    [number] = {text.split()[1] for text in live(tmp_path)}
    assert registry.aliases == {"champion": number}
    assert publication.champions()[-1] == number
    assert list(interrupted(UPath(tmp_path))) == []
