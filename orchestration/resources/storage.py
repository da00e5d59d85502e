"""Where tables, documents and model bundles lie, and the IO managers that put assets there.

Everything is written under a temporary name and then renamed, so that a reader sees the old file or the new one.
"""

import io
import json
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd
from upath import UPath

from ml.inference.locations import bundle_path, tables_directory
from orchestration.metadata import table_metadata
from orchestration.resources.source import PAPER, SPLITS, RawData
from orchestration.settings import Settings

if TYPE_CHECKING:
    from ml.inference.bundle import ModelBundle


def write_atomically(path: UPath, data: bytes) -> None:
    """Write a file under a temporary name beside its own, then rename it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        temporary.write_bytes(data)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class Storage(dg.ConfigurableResource):
    """The directories of one data set under PIPELINE_HOME, a local path or any fsspec URL."""

    raw_data: dg.ResourceDependency[RawData]

    @property
    def tables(self) -> UPath:
        """Directory of the Parquet tables and JSON documents."""
        return tables_directory(Settings().home, self.raw_data.dataset)

    def write_table(self, name: str, table: pd.DataFrame) -> UPath:
        """Write a table as ``<name>.parquet``, without its index."""
        path = self.tables / f"{name}.parquet"
        write_parquet(path, table)
        return path

    def evaluations(self) -> dict[str, pd.DataFrame]:
        """By split, evaluation.parquet of this data set, where there is one; the paper's has models of its own."""
        found = {}
        for split in (split for split in SPLITS if split != PAPER):
            path = tables_directory(Settings().home, self.raw_data.name_of(split)) / "evaluation.parquet"
            if path.exists():
                found[split] = pd.read_parquet(io.BytesIO(path.read_bytes()))
        return found

    def publish(self, model: str, top: pd.DataFrame, bundle: "ModelBundle") -> UPath:
        """Write a model's top-10 table, and its bundle for scoring other moments live; gives the table's path."""
        with tempfile.TemporaryDirectory() as folder:
            local = Path(folder) / "bundle.zip"
            bundle.save(local)
            write_atomically(bundle_path(Settings().home, self.raw_data.dataset, model), local.read_bytes())
        return self.write_table(f"top10_{model}", top)


def write_parquet(path: UPath, table: pd.DataFrame) -> None:
    """Write a table as Parquet, without its index."""
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    write_atomically(path, buffer.getvalue())


class _TableManager(dg.UPathIOManager):
    extension = ".parquet"

    def dump_to_path(self, context: dg.OutputContext, obj: pd.DataFrame, path: UPath) -> None:
        write_parquet(path, obj)

    def load_from_path(self, context: dg.InputContext, path: UPath) -> pd.DataFrame:
        return pd.read_parquet(io.BytesIO(path.read_bytes()))

    def get_metadata(self, context: dg.OutputContext, obj: pd.DataFrame) -> dict[str, Any]:
        return table_metadata(obj)


class _DocumentManager(dg.UPathIOManager):
    extension = ".json"

    def dump_to_path(self, context: dg.OutputContext, obj: dict[str, Any], path: UPath) -> None:
        write_atomically(path, json.dumps(obj, ensure_ascii=False).encode())

    def load_from_path(self, context: dg.InputContext, path: UPath) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(path.read_bytes())
        return document


class TableIOManager(dg.ConfigurableIOManagerFactory):
    """Assets that are frames, as Parquet files named like the asset."""

    storage: dg.ResourceDependency[Storage]

    def create_io_manager(self, context: dg.InitResourceContext) -> _TableManager:
        """Called by Dagster."""
        return _TableManager(base_path=self.storage.tables)


class DocumentIOManager(dg.ConfigurableIOManagerFactory):
    """Assets that are JSON documents, as files named like the asset."""

    storage: dg.ResourceDependency[Storage]

    def create_io_manager(self, context: dg.InitResourceContext) -> _DocumentManager:
        """Called by Dagster."""
        return _DocumentManager(base_path=self.storage.tables)
