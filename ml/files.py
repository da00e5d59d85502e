"""Replace files as a whole, tell contents apart, and read tables and JSON documents."""

import hashlib
import io
import json
import os
import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
import pyarrow.parquet as pq
from fsspec.config import conf
from upath import UPath

from ml.errors import DataError

LARGEST_DOCUMENT = 64 * 2**20  # bytes of JSON; parsed, it takes many times as much memory
TEMPORARY_NAME = re.compile(r"\..+\.[0-9a-f]{32}")  # of a file while it is written
OBJECT_STORES = ("s3", "s3a")  # protocols
_Path = TypeVar("_Path", Path, UPath)

for _protocol in OBJECT_STORES:  # else a process that has listed a directory never sees what others write there
    conf.setdefault(_protocol, {}).setdefault("use_listings_cache", False)


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


def is_object_store(path: Path | UPath) -> bool:
    """Return whether a path is in a store of objects.

    There, writing replaces an object as a whole, a rename is a copy and a deletion, and there are no directories.
    """
    return getattr(path, "protocol", "") in OBJECT_STORES


def make_directory(path: Path | UPath) -> None:
    """Create a directory and its parents, except in a store of objects, which has none (but would create a bucket)."""
    if not is_object_store(path):
        path.mkdir(parents=True, exist_ok=True)


def write_atomically(path: Path | UPath, data: bytes) -> None:
    """Replace a file as a whole: readers see the old content or the new one. Raises OSError."""
    contents: dict[Any, bytes] = {path: data}
    replace_files(contents)


def create(path: UPath, data: bytes) -> bool:
    """Write a file only if there is none, in one step: of two processes that try, one succeeds.

    Args:
        path: on a file system of fsspec that can do this, such as S3 with conditional writes.
        data: the content.

    Returns:
        Whether this call has written it.

    Raises:
        OSError, ValueError: it cannot be written, or not on this condition.
    """
    try:
        path.fs.pipe_file(path.path, data, mode="create")
    except OSError as error:
        # S3 answers 412, or 409 to the later of two at once; s3fs makes different errors of them.
        if isinstance(error, FileExistsError) or path.exists():
            return False
        raise
    return True


def replace_files(files: Mapping[_Path, bytes]) -> None:
    """Write all files under temporary names beside them, then rename them in the given order.

    A write that fails, such as on a full disk, changes none of them. On a local disk the new content survives a power
    failure. A process that crashes meanwhile leaves files named like ``TEMPORARY_NAME``.

    In a store of objects they are written in the given order, without temporary names: each is replaced as a whole, but
    if one cannot be written, those before it are replaced already.

    Args:
        files: content by path, local or on any fsspec file system. Missing parent directories are created.

    Raises:
        OSError: a file cannot be written.
    """
    if any(is_object_store(path) for path in files):
        for path, data in files.items():
            _put(path, data)
        return
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


class Replacement:
    """The new content of a file while it is written; the file has its old content until ``commit``.

    Args:
        path: of the file, local or on any fsspec file system. Missing parent directories are created.

    Attributes:
        file: open for writing.
    """

    def __init__(self, path: Path | UPath) -> None:
        self._path, self._is_object = path, is_object_store(path)
        self._place: Any = path if self._is_object else temporary_path(path)
        make_directory(path.parent)
        # An object's parts are uploaded while they are written, and become the object only at the end.
        self.file = _open(self._place, {"autocommit": False} if self._is_object else {})

    def finish(self) -> None:
        """Close the file. Its content is complete then, and on a local disk survives a power failure."""
        self.file.close()
        if not self._is_object:
            sync(self._place)

    def commit(self) -> None:
        """Let the content replace the old one."""
        self.finish()
        if self._is_object:
            self.file.commit()
        else:
            self._place.rename(self._path)
            sync(self._path.parent)

    def discard(self) -> None:
        """Remove the content, unless it was committed."""
        with suppress(OSError):
            self.file.close()
        if not self._is_object:
            self._place.unlink(missing_ok=True)
        elif self.file.buffer is not None:  # it has none once it is committed
            self.file.discard()


def _open(path: Any, options: Mapping[str, Any]) -> Any:
    return path.open("wb", **options)


def _put(path: Any, data: bytes) -> None:
    path.fs.pipe_file(path.path, data)


def content(path: Path | UPath) -> bytes:
    """Return a file's content at one time. Raises OSError, also where an object was replaced meanwhile."""
    if not is_object_store(path):
        return path.read_bytes()
    with path.open("rb") as file:  # several requests for a large object, each on the condition that it is the same one
        return bytes(file.read())


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
        data = io.BytesIO(content(path))
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
