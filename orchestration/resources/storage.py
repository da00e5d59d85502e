"""Where tables and documents are stored, and the IO managers that store assets there.

Every file is replaced as a whole (``ml.files``), so that a reader sees the old file or the new one.
"""

import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
from upath import UPath

from ml.data.blocks import Blocks, BlockWriter
from ml.data.mapped import read_table
from ml.features.collaborative_folds import CollaborativeFolds
from ml.features.splits import PAPER, SPLITS
from ml.files import digest, digest_of_file, make_directory, read_parquet, write_atomically
from ml.published.locations import tables_directory
from orchestration.config.settings import settings
from orchestration.reporting.metadata import table_metadata
from orchestration.resources.raw_data import RawData

SCRATCH = "scratch"  # in the home: files that a step removes again
STORED = "stored"  # metadata of a materialization: the digest of each file that it wrote, by its name


class Storage(dg.ConfigurableResource):
    """The tables of one data set under PIPELINE_HOME, a local path or any fsspec URL."""

    raw_data: dg.ResourceDependency[RawData]

    @property
    def tables(self) -> UPath:
        """Directory of the Parquet tables and JSON documents."""
        return tables_directory(settings().home, self.raw_data.dataset)

    def write_table(self, name: str, table: pd.DataFrame) -> UPath:
        """Write a table as ``<name>.parquet``, without its index."""
        path = self.tables / f"{name}.parquet"
        _write(path, table)
        return path

    def writer(self, name: str) -> BlockWriter:
        """Begin to write the table ``<name>.parquet`` in blocks; as the value of its asset, it is committed."""
        return BlockWriter(self.tables / f"{name}.parquet")

    @property
    def scratch(self) -> Path:
        """A local directory for files that a step removes again."""
        return scratch_directory()

    def read_table(self, name: str) -> pd.DataFrame:
        """The table ``<name>.parquet``."""
        return _from_parquet(self.tables / f"{name}.parquet")

    def find_table(self, name: str, columns: Sequence[str]) -> pd.DataFrame | None:
        """These columns of the table ``<name>.parquet``; None if there is no such file.

        Raises:
            DataError: the file is not a Parquet table with these columns.
        """
        path = self.tables / f"{name}.parquet"
        if not path.exists():
            return None
        return read_parquet(path, columns)

    def read_document(self, name: str) -> dict[str, Any]:
        """The document ``<name>.json``."""
        document: dict[str, Any] = json.loads((self.tables / f"{name}.json").read_bytes())
        return document

    def digest(self, name: str, of: Callable[[UPath], str] = digest_of_file) -> str | None:
        """Digest of a file among the tables, by ``of``; None if there is no such file."""
        path = self.tables / name
        return of(path) if path.exists() else None

    def stored(self, *names: str) -> dict[str, Any]:
        """The metadata ``STORED`` of a materialization that wrote these files among the tables."""
        return record_of({name: self.digest(name) for name in names})

    def evaluations(self) -> dict[str, pd.DataFrame]:
        """evaluation.parquet by split, where there is one; without the paper's split, which has models of its own."""
        found: dict[str, pd.DataFrame] = {}
        for split in (split for split in SPLITS if split != PAPER):
            path = tables_directory(settings().home, self.raw_data.name_of(split)) / "evaluation.parquet"
            if path.exists():
                found[split] = _from_parquet(path)
        return found


def scratch_directory() -> Path:
    """A local directory for files that a step removes again, of all data sets."""
    path = settings().local_home / SCRATCH
    path.mkdir(parents=True, exist_ok=True)
    return path


def as_parquet(table: pd.DataFrame) -> bytes:
    """A table as a Parquet file, without its index."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    return buffer.getvalue()


def _from_parquet(path: UPath) -> pd.DataFrame:
    with path.open("rb") as file:
        return pd.read_parquet(file)


def _write(path: UPath, table: pd.DataFrame) -> str:
    """Write a table without its index; gives the file's digest."""
    with BlockWriter(path) as writer:
        writer.append(table.reset_index(drop=True))
        return writer.commit()


def record_of(files: Mapping[str, str | None]) -> dict[str, Any]:
    """The metadata ``STORED``: digests by file name."""
    return {STORED: dg.MetadataValue.json(dict(files))}


class _Manager(dg.UPathIOManager):
    """Stores each partition in the directory of its data set's tables."""

    def get_path_for_partition(self, context: dg.InputContext | dg.OutputContext, path: UPath, partition: str) -> UPath:
        """The path without extension: ``tables/<partition>/<asset>``."""
        return tables_directory(settings().home, partition) / path.name

    def make_directory(self, path: UPath) -> None:
        """Create a directory where the file system has directories. Called by Dagster."""
        make_directory(path)

    @staticmethod
    def write(context: dg.OutputContext, path: UPath, data: bytes) -> None:
        """Write a file and record its digest."""
        write_atomically(path, data)
        context.add_output_metadata(record_of({path.name: digest(data)}))


class _TableManager(_Manager):
    """An asset gets ``Blocks`` where its input is annotated so, and gives a frame, or a writer of its own table.

    A frame of many numbers is in a file, see ``ml.data.mapped``.
    """

    extension = ".parquet"

    def dump_to_path(self, context: dg.OutputContext, obj: pd.DataFrame | BlockWriter, path: UPath) -> None:
        if isinstance(obj, BlockWriter):
            context.add_output_metadata(record_of({path.name: obj.commit()}))
        else:
            context.add_output_metadata(record_of({path.name: _write(path, obj)}))

    def load_from_path(self, context: dg.InputContext, path: UPath) -> pd.DataFrame | Blocks:
        return Blocks(path) if context.dagster_type.typing_type is Blocks else read_table(path, scratch_directory())

    def get_metadata(self, context: dg.OutputContext, obj: pd.DataFrame | BlockWriter) -> dict[str, Any]:
        head, rows = (obj.head, obj.rows) if isinstance(obj, BlockWriter) else (obj, len(obj))
        return table_metadata(head, rows, context.asset_key.to_user_string())


class _DocumentManager(_Manager):
    extension = ".json"

    def dump_to_path(self, context: dg.OutputContext, obj: dict[str, Any], path: UPath) -> None:
        self.write(context, path, json.dumps(obj, ensure_ascii=False).encode())

    def load_from_path(self, context: dg.InputContext, path: UPath) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(path.read_bytes())
        return document


class _FoldsManager(_Manager):
    extension = ".npz"

    def dump_to_path(self, context: dg.OutputContext, obj: CollaborativeFolds, path: UPath) -> None:
        data = obj.to_bytes()
        self.write(context, path, data)
        context.add_output_metadata({"bytes": len(data)})

    def load_from_path(self, context: dg.InputContext, path: UPath) -> CollaborativeFolds:
        return CollaborativeFolds.from_bytes(path.read_bytes(), str(path))


class TableIOManager(dg.ConfigurableIOManagerFactory):
    """Stores frames as Parquet files named like the asset."""

    raw_data: dg.ResourceDependency[RawData]  # every step holds its lock

    def create_io_manager(self, context: dg.InitResourceContext) -> _TableManager:
        """Called by Dagster."""
        return _TableManager(base_path=settings().home)


class DocumentIOManager(dg.ConfigurableIOManagerFactory):
    """Stores JSON documents as files named like the asset."""

    raw_data: dg.ResourceDependency[RawData]  # every step holds its lock

    def create_io_manager(self, context: dg.InitResourceContext) -> _DocumentManager:
        """Called by Dagster."""
        return _DocumentManager(base_path=settings().home)


class FoldsIOManager(dg.ConfigurableIOManagerFactory):
    """Stores fitted collaborative features as NumPy archives named like the asset."""

    raw_data: dg.ResourceDependency[RawData]  # every step holds its lock

    def create_io_manager(self, context: dg.InitResourceContext) -> _FoldsManager:
        """Called by Dagster."""
        return _FoldsManager(base_path=settings().home)
