"""Write files so that a reader sees the old one or the new one, also after a power failure; read tables."""

import hashlib
import io
import os
import uuid
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from upath import UPath

from ml.errors import DataError


def digest(data: bytes) -> str:
    """What tells one content from another, 16 hexadecimal digits of its SHA-256."""
    return hashlib.sha256(data).hexdigest()[:16]


def write_durably(path: Path, data: bytes) -> None:
    """Write under a temporary name beside ``path``, bring it to the disk, then rename it. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(folder: Path) -> None:
    """Bring a directory's entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_stamp(path: UPath) -> tuple[float, int]:
    """Time and size of a file: they change whenever it is replaced. Raises DataError where there is no such file."""
    try:
        stat = path.stat()
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file; run the pipeline (make run)") from error
    return stat.st_mtime, stat.st_size


def read_parquet(path: UPath, columns: Sequence[str]) -> pd.DataFrame:
    """These columns of a file. Raises DataError where it is no Parquet table with them."""
    try:
        return pd.read_parquet(io.BytesIO(path.read_bytes()), columns=list(columns))
    except (OSError, ValueError) as error:  # PyArrow's errors are ValueErrors
        raise DataError(
            f"{path}: found no Parquet table with the columns {', '.join(columns)} ({error}); rebuild it (make run)"
        ) from error
