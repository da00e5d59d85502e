"""What readers see of a model: its champion's alias, top-10 table and bundle, which change together.

Every published version's table and bundle are also kept under ``archive/<data set>/<model>/<version>/``, with what was
measured of it. From there a person can go back to them. A change is written down before it begins; one that was cut
off is completed from the archive by whoever comes next.
"""

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from upath import UPath

from ml.errors import NotFoundError
from ml.files import write_atomically
from ml.published.locations import (
    ARCHIVE,
    ARCHIVED_BUNDLE,
    ARCHIVED_RECORD,
    archive_directory,
    bundle_path,
    checked_name,
    top_lists_path,
)
from orchestration.tracking.registered_version import RegisteredVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient

_JOURNAL, _CHAMPIONS = "publishing.json", "champions.json"
_TABLE = "top10.parquet"
_NO_METRICS: Mapping[str, float] = {}


class Publication:
    """The published versions of one model.

    Args:
        home: the pipeline's home.
        dataset: the data set's name.
        model: the model's name in this project.
        registered_model: its name in the registry.
        client: of the registry.
        alias: that marks the champion.
    """

    def __init__(
        self, home: UPath, dataset: str, model: str, registered_model: str, client: "MlflowClient", alias: str
    ) -> None:
        self._folder = archive_directory(home, dataset, model)
        self._live = {
            ARCHIVED_BUNDLE: bundle_path(home, dataset, model),
            _TABLE: top_lists_path(home, dataset, model),
        }
        self._registered_model, self._client, self._alias = registered_model, client, alias

    @property
    def table(self) -> UPath:
        """The published table."""
        return self._live[_TABLE]

    def champion(self) -> str | None:
        """The version whose table is published; None before the first. Raises MlflowException.

        What was written here is believed before the alias, which a person can move; the next publication sets it right.
        """
        return self.champions()[-1] if self.champions() else self.aliased()

    def aliased(self) -> str | None:
        """The version that has the champion's alias in the registry. Raises MlflowException."""
        model = found_in_registry(lambda: self._client.get_registered_model(self._registered_model))
        return str(model.aliases[self._alias]) if model and self._alias in model.aliases else None

    def champions(self) -> list[str]:
        """All versions that were champion, in the order in which they became it, the last time each."""
        path = self._folder / _CHAMPIONS
        found: list[str] = json.loads(path.read_bytes()) if path.exists() else []
        return found

    def archived(self) -> list[str]:
        """Versions whose table and bundle are kept."""
        folders = self._folder.iterdir() if self._folder.is_dir() else []
        return sorted((f.name for f in folders if all((f / name).exists() for name in self._live)), key=int)

    def recorded(self, number: str) -> RegisteredVersion | None:
        """Which version was published under a number; None where it was before that was written down."""
        path = self._folder / checked_name(number) / ARCHIVED_RECORD
        return RegisteredVersion(**json.loads(path.read_bytes())["version"]) if path.exists() else None

    def publish(
        self, version: RegisteredVersion, table: bytes, bundle: bytes, metrics: Mapping[str, float] = _NO_METRICS
    ) -> None:
        """Make a version champion, or publish a champion's new table.

        Args:
            version: which.
            table: its lists, as Parquet.
            bundle: its network.
            metrics: what was measured of it, finite numbers by name.
        """
        folder = self._folder / version.version
        record = {"version": version.to_dict(), "metrics": dict(metrics)}
        write_atomically(folder / ARCHIVED_RECORD, json.dumps(record, allow_nan=False).encode())
        write_atomically(folder / ARCHIVED_BUNDLE, bundle)
        write_atomically(folder / _TABLE, table)
        self._switch(version.version)

    def go_back(self, number: str) -> None:
        """Make an earlier champion champion again, with its table of then. Raises NotFoundError."""
        if number not in self.archived():
            kept = ", ".join(self.archived()) or "none"
            raise NotFoundError(f"no table of version {number} of {self._registered_model} is kept; kept are {kept}")
        self._switch(number)

    def finish_interrupted(self) -> str | None:
        """Complete a change that was cut off; gives the version that it was to, None where there was none."""
        path = self._folder / _JOURNAL
        if not path.exists():
            return None
        number = str(json.loads(path.read_bytes())["version"])
        self._switch(number)
        return number

    def forget(self, number: str) -> None:
        """Remove an archived version."""
        folder = self._folder / checked_name(number)
        for name in (*self._live, ARCHIVED_RECORD):
            (folder / name).unlink(missing_ok=True)
        if folder.exists():
            folder.rmdir()
        self._write_champions([version for version in self.champions() if version != number])

    def _switch(self, number: str) -> None:
        # What may fail comes first: the disk may be full, the registry out of reach. Then files are only renamed.
        staged = {name: self._stage(number, name) for name in self._live}
        journal = self._folder / _JOURNAL
        aliased = self.aliased()
        write_atomically(journal, json.dumps({"version": number}).encode())
        try:
            if aliased != number:  # a version that somebody has deleted meanwhile gets none
                mark = self._client.set_registered_model_alias
                found_in_registry(lambda: mark(self._registered_model, self._alias, number))
        except Exception:
            journal.unlink()
            for path in staged.values():
                path.unlink(missing_ok=True)
            raise
        for name, path in staged.items():
            path.rename(self._live[name])
        self._write_champions([*(version for version in self.champions() if version != number), number])
        journal.unlink()

    def _stage(self, number: str, name: str) -> UPath:
        live = self._live[name]
        live.parent.mkdir(parents=True, exist_ok=True)
        path = live.with_name(f".{live.name}.{uuid.uuid4().hex}")
        path.write_bytes((self._folder / number / name).read_bytes())
        return path

    def _write_champions(self, versions: list[str]) -> None:
        write_atomically(self._folder / _CHAMPIONS, json.dumps(versions).encode())


def found_in_registry(ask: Callable[[], Any]) -> Any:
    """What the registry answers; None where it has no such thing. Raises MlflowException where it cannot be asked."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST, ErrorCode

    try:
        return ask()
    except MlflowException as error:
        if error.error_code == ErrorCode.Name(RESOURCE_DOES_NOT_EXIST):
            return None
        raise


def interrupted(home: UPath) -> Iterator[tuple[str, str]]:
    """Data set and model of every change that was cut off."""
    folder = home / ARCHIVE
    for journal in folder.glob(f"*/*/{_JOURNAL}") if folder.is_dir() else ():
        yield journal.parent.parent.name, journal.parent.name
