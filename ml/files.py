"""Replace files as a whole, tell contents apart, and read tables and JSON documents."""

import hashlib
import io
import json
import os
import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import pyarrow.parquet as pq
from upath import UPath

from ml.errors import DataError

LARGEST_DOCUMENT = 64 * 2**20  # bytes of JSON; parsed, it takes many times as much memory
TEMPORARY_NAME = re.compile(r"\..+\.[0-9a-f]{32}")  # of a file while it is written
_Path = TypeVar("_Path", Path, UPath)


def digest(data: bytes) -> str:
    """Return the first 16 hexadecimal digits of the SHA-256 of ``data``."""
    return shortened(hashlib.sha256(data))


def digest_of_file(path: Path | UPath) -> str:
    """Return ``digest`` of a file's content, which is read in parts."""
    hashed = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(2**20):
            hashed.update(data)
    return shortened(hashed)


def shortened(hashed: Any) -> str:
    """Return the first 16 hexadecimal digits of a hash object of ``hashlib``."""
    return hashed.hexdigest()[:16]


def temporary_path(path: Path | UPath) -> Any:
    """Return where to write a file's new content before it is renamed, see ``TEMPORARY_NAME``."""
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def write_atomically(path: Path | UPath, data: bytes) -> None:
    """Replace a file as a whole: readers see the old content or the new one. Raises OSError."""
    contents: dict[Any, bytes] = {path: data}
    replace_files(contents)


def replace_files(files: Mapping[_Path, bytes]) -> None:
    """Write all files under temporary names beside them, then rename them in the given order.

    A write that fails, such as on a full disk, changes none of them. On a local disk the new content survives a power
    failure. A process that crashes meanwhile leaves files
    named like ``TEMPORARY_NAME``.

    Args:
        files: content by path, local or on any fsspec file system. Missing parent directories are created.

    Raises:
        OSError: a file cannot be written.
    """
    temporary = {path: temporary_path(path) for path in files}
    try:
        for path, data in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary[path].write_bytes(data)
            sync(temporary[path])
        for path in files:
            temporary[path].rename(path)
            sync(path.parent)
    except BaseException:
        for path in temporary.values():
            path.unlink(missing_ok=True)
        raise


def sync(path: Path | UPath) -> None:
    """Flush a local file's content, or a local directory's entries, to the disk; do nothing on other file systems."""
    if not isinstance(path, os.PathLike):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_stamp(path: UPath) -> tuple[float, int]:
    """Return a file's time and size, which change whenever it is replaced. Raises DataError if it does not exist."""
    try:
        stat = path.stat()
    except FileNotFoundError as error:
        raise DataError(f"{path}: file not found; run the pipeline (make run)") from error
    return stat.st_mtime, stat.st_size


def read_parquet(path: UPath, columns: Sequence[str], optional: Collection[str] | None = ()) -> pd.DataFrame:
    """Read columns of a Parquet file.

    Args:
        path: the file.
        columns: the columns.
        optional: further columns, where the file has them; None: all that it has.

    Raises:
        DataError: the file is not a Parquet table with the columns.
    """
    try:
        data = io.BytesIO(path.read_bytes())
        own = pq.read_schema(data).names
        further = [name for name in own if name not in columns and (optional is None or name in optional)]
        return pd.read_parquet(data, columns=[*columns, *further])
    except Exception as error:  # whatever PyArrow and pandas raise for damaged bytes
        raise DataError(
            f"{path}: found no Parquet table with the columns {', '.join(columns)} ({error}); rebuild it (make run)"
        ) from error


def parse_json(data: bytes, where: str) -> Any:
    """Parse a JSON document.

    Args:
        data: the document, UTF-8.
        where: what to call it in errors.

    Raises:
        DataError: it is not JSON, too large or too deep.
    """
    if len(data) > LARGEST_DOCUMENT:
        raise DataError(f"{where}: {len(data):,} bytes of JSON; expected at most {LARGEST_DOCUMENT:,}")
    try:
        return json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not a JSON document ({error})") from error
