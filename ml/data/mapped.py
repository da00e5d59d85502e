"""Arrays and tables that may be larger than memory.

A large one lies in a file without a name, which the operating system maps into memory: pages are read when they are
used, and are given up when memory is short. The file is gone with its last array, or with the process.
"""

import math
import mmap
import os
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from upath import UPath

from ml.data.blocks import Blocks

LARGEST_IN_MEMORY = 2**28  # bytes; smaller arrays need no file


def mapped_array(shape: tuple[int, ...], dtype: npt.DTypeLike, scratch: Path | None = None) -> np.ndarray:
    """Return an array without content: in memory if it is small, else in a file.

    Args:
        shape: of the array.
        dtype: of the array.
        scratch: directory of the file, which must exist; default: the system's directory of temporary files.

    Raises:
        OSError: the disk is full.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if size <= LARGEST_IN_MEMORY:
        return np.empty(shape, dtype)
    with TemporaryFile(dir=scratch) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk raises here, and not when a page is written
        else:
            file.truncate(size)
        return np.ndarray(shape, dtype, mmap.mmap(file.fileno(), size))


def release(*arrays: np.ndarray) -> None:
    """Let the operating system take the pages of mapped arrays out of memory; the content stays in the file."""
    for array in arrays:
        base: Any = array
        while isinstance(base, np.ndarray):
            base = base.base
        if isinstance(base, mmap.mmap):
            base.madvise(mmap.MADV_DONTNEED)


def mapped_table(blocks: Iterable[pd.DataFrame], rows: int, scratch: Path | None = None) -> pd.DataFrame:
    """Gather blocks in one table; neighboring columns of one type share a ``mapped_array``.

    Args:
        blocks: at least one, with the same numeric columns.
        rows: of all blocks.
        scratch: see ``mapped_array``.
    """
    parts: list[tuple[Sequence[str], np.ndarray]] = []
    start = 0
    for block in blocks:
        parts = parts or [(names, mapped_array((rows, len(names)), dtype, scratch)) for dtype, names in _runs(block)]
        for names, values in parts:
            values[start : start + len(block)] = block[list(names)].to_numpy()
            release(values)
        start += len(block)
    if start != rows:
        raise ValueError(f"found {start:,} rows in the blocks; expected {rows:,}")
    return pd.concat([pd.DataFrame(values, columns=list(names), copy=False) for names, values in parts], axis=1)


def read_table(path: Path | UPath, scratch: Path | None = None) -> pd.DataFrame:
    """Return the table in a Parquet file; a large one of numbers alone, without gaps, as ``mapped_table``."""
    blocks = Blocks(path)
    types, rows = blocks.types, len(blocks)
    if types and rows * sum(dtype.itemsize for dtype in types.values()) > LARGEST_IN_MEMORY:
        return mapped_table(blocks, rows, scratch)
    with path.open("rb") as file:
        return pd.read_parquet(file)


def fill(values: np.ndarray, rows: int, of: Callable[[slice], np.ndarray]) -> np.ndarray:
    """Set all rows of an array, some at a time; return it.

    Args:
        values: [n, ...].
        rows: how many at a time.
        of: returns the values of a range of rows.
    """
    for start in range(0, len(values), rows):
        chosen = slice(start, min(start + rows, len(values)))
        values[chosen] = of(chosen)
        release(values)
    return values


def _runs(block: pd.DataFrame) -> list[tuple[np.dtype[Any], list[str]]]:
    """Return neighboring columns of one type, in their order."""
    runs = groupby(block.columns, key=lambda name: block[name].to_numpy().dtype)
    return [(dtype, list(names)) for dtype, names in runs]
