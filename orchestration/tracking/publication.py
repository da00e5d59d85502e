"""Publish versions of a model: archive their files, move the pointer to the champion, then update its two mirrors.

The pointer (``ml.published.champions``) alone says which version is published. In a store of objects it is the last
thing that is written, after files of new names. Its mirrors serve readers that cannot
follow it: the exported table ``tables/<data set>/top10_<model>.parquet``, and the champion's alias in the registry.
They are written after it; ``Publication.sync`` repairs them where a crash or a person left them different.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import pandas as pd
from upath import UPath

from ml.errors import DataError, NotFoundError
from ml.files import digest, is_object_store, parse_json, read_parquet, replace_files, write_atomically
from ml.published.champions import FILE_NAMES, ModelArchive, Pointer
from ml.published.locations import exported_table_path
from orchestration.tracking.access import admitted
from orchestration.tracking.registered_version import RegisteredVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient

_NO_METRICS: Mapping[str, float] = {}


class Publication:
    """The published versions of one model.

    Attributes:
        archive: the published files and the pointer; raises DataError where the pointer is damaged.
        table: the exported table.

    Args:
        home: the pipeline's home.
        dataset: the data set's name.
        model: the model's name in this project.
        registered_model: the model's name in the registry.
        client: a client of the registry.
        alias: the alias that marks the champion.
    """

    def __init__(
        self, home: UPath, dataset: str, model: str, registered_model: str, client: "MlflowClient", alias: str
    ) -> None:
        self.archive, self._model = ModelArchive(home, dataset, model), model
        self.table = exported_table_path(home, dataset, model)
        self._registered_model, self._client, self._alias = registered_model, client, alias

    def champion(self) -> str | None:
        """Number of the published version; None before the first."""
        champion = self.archive.champion()
        return champion.number if champion else None

    def aliased(self) -> str | None:
        """Number of the version with the champion's alias in the registry. Raises MlflowException."""
        model = found_in_registry(lambda: self._client.get_registered_model(self._registered_model))
        return str(model.aliases[self._alias]) if model and self._alias in model.aliases else None

    def recorded(self, number: str) -> RegisteredVersion | None:
        """The version that was published under a number; None where earlier releases did not record it.

        Raises:
            DataError: the record is damaged.
        """
        record = self.archive.version(number).record
        if not record.exists():
            return None
        try:
            return RegisteredVersion(**parse_json(record.read_bytes(), str(record))["version"])
        except (DataError, TypeError, LookupError) as error:
            raise DataError(
                f"{record}: expected the registered version and its metrics, found none ({error}); restore it from a "
                "backup, or remove it: the next run writes it again"
            ) from error

    def published_lists(self, columns: list[str]) -> pd.DataFrame | None:
        """Columns of the champion's table; None before the first. Raises DataError where it cannot be read."""
        champion = self.archive.champion()
        return read_parquet(champion.table, columns) if champion else None

    def publish(
        self, version: RegisteredVersion, table: bytes, bundle: bytes, metrics: Mapping[str, float] = _NO_METRICS
    ) -> None:
        """Make a version the champion, or publish a new table of the champion.

        Args:
            version: the version.
            table: its lists, as Parquet.
            bundle: its network, as ``ModelBundle.save`` writes it.
            metrics: its metrics by name, all finite.

        Raises:
            MlflowException: the registry cannot be asked; nothing was changed.
            OSError: a file cannot be written. A full disk changes nothing.
        """
        record = json.dumps({"version": version.to_dict(), "metrics": dict(metrics)}, allow_nan=False).encode()
        contents = {"record": record, "bundle": bundle, "table": table}
        names = _names(contents) if is_object_store(self.archive.folder) else FILE_NAMES
        self._switch(version.version, table, names, contents)

    def go_back(self, number: str) -> None:
        """Make an earlier champion the champion again, with its last table. Raises NotFoundError and as ``publish``."""
        if number not in (kept := self.archive.versions()):
            raise NotFoundError(
                f"no table of version {number} of {self._registered_model} is kept; kept are {', '.join(kept)}"
            )
        table = self.archive.version(number).table.read_bytes()
        self._switch(number, table, self.archive.read().names(number), {})

    def differences(self) -> Iterator[str]:
        """Describe what differs from the pointer: missing files of the champion, the exported table, the alias.

        Raises:
            MlflowException: the registry cannot be asked.
        """
        champion = self.archive.champion()
        if champion is None:
            return
        its_version = f"version {champion.number}, whose table is published"
        if not champion.is_complete:
            yield f"{champion.folder} lacks the table or the bundle of {self._model}'s champion"
        elif not self.table.exists() or self.table.read_bytes() != champion.table.read_bytes():
            yield f"{self.table.name} is not the table of {self._model}'s champion, version {champion.number}"
        if (alias := self.aliased()) != champion.number:
            at = f"is at version {alias}" if alias else "is missing"
            yield f"the alias of {self._model}'s champion {at}; it is set to {its_version}"

    def sync(self) -> list[str]:
        """Make the exported table and the alias those of the champion; gives what differed. Raises MlflowException."""
        found, champion = list(self.differences()), self.archive.champion()
        if found and champion:
            if champion.is_complete:
                write_atomically(self.table, champion.table.read_bytes())
            self._set_alias(champion.number)
        return found

    def forget(self, number: str) -> None:
        """Remove a version that is not the champion from the archive."""
        if number == self.champion():
            raise ValueError(f"version {number} of {self._registered_model} is published")
        files, pointer = self.archive.version(number), self.archive.read()
        champions = [version for version in pointer.champions if version != number]
        others = {version: names for version, names in pointer.files.items() if version != number}
        write_atomically(self.archive.pointer, _document(Pointer(champions, others)))
        if is_object_store(files.folder):
            _remove_others(files.folder, set())
            return
        for path in (files.table, files.bundle, files.record):
            path.unlink(missing_ok=True)
        if files.folder.exists():
            files.folder.rmdir()

    def _switch(self, number: str, table: bytes, names: Mapping[str, str], archived: Mapping[str, bytes]) -> None:
        """Replace archived files, then the pointer, then the mirrors; the registry is asked before anything changes.

        Args:
            number: of the new champion.
            table: its lists, as Parquet.
            names: of its files by kind.
            archived: content of these files by kind, of those that are to be written.
        """
        aliased, before = self.aliased(), self.archive.read()
        champions = [*(version for version in before.champions if version != number), number]
        others = {version: own for version, own in before.files.items() if version != number}
        own = {} if names == FILE_NAMES else {number: dict(names)}
        pointer, folder = _document(Pointer(champions, others | own)), self.archive.folder / number
        files = {folder / names[kind]: content for kind, content in archived.items()}
        if is_object_store(folder):  # a file of this name has this content already
            files = {path: content for path, content in files.items() if not path.exists()}
        replace_files({**files, self.archive.pointer: pointer, self.table: table})
        if archived and is_object_store(folder):  # a reader may have read the pointer just before
            _remove_others(folder, {*names.values(), *before.names(number).values()})
        if aliased != number:
            self._set_alias(number)

    def _set_alias(self, number: str) -> None:
        """Set the champion's alias. A version that somebody has deleted from the registry gets none."""
        mark = self._client.set_registered_model_alias
        found_in_registry(lambda: mark(self._registered_model, self._alias, number))


def _names(contents: Mapping[str, bytes]) -> dict[str, str]:
    """Names of a version's files after their content, by kind."""
    names = {kind: PurePosixPath(FILE_NAMES[kind]) for kind in contents}
    return {kind: f"{name.stem}-{digest(contents[kind])}{name.suffix}" for kind, name in names.items()}


def _document(pointer: Pointer) -> bytes:
    return json.dumps(pointer.document).encode()


def _remove_others(folder: UPath, kept: Collection[str]) -> None:
    """Remove a directory's files, except for those of these names."""
    for path in [*folder.iterdir()] if folder.exists() else []:
        if path.name not in kept:
            path.unlink(missing_ok=True)


def found_in_registry(ask: Callable[[], Any]) -> Any:
    """Ask the registry; gives None where it has no such thing.

    Raises:
        DataError: it does not let this user ask.
        MlflowException: it cannot be asked.
    """
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

    try:
        with admitted():
            return ask()
    except MlflowException as error:
        if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            return None
        raise
