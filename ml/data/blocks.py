"""Tables as blocks of rows, for those that may be larger than memory.

A block is a frame of at most ``BLOCK_ROWS`` rows. Blocks are read from a Parquet file in its order and written to
another one, so that a table need not fit into memory.
"""

import hashlib
import io
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
from upath import UPath

from ml.files import Replacement, shortened

BLOCK_ROWS = 2**20
HEAD_ROWS = 5  # kept of a table that is written
_DICTIONARY_BYTES = 2**16  # columns with more values are written as they are: looking each value up takes long
_PLACE = "place_among_the_gathered"


@dataclass(frozen=True)
class Blocks:
    """A table in a Parquet file.

    Attributes:
        path: of the file, local or on any fsspec file system.
        block_rows: most rows of a block.
    """

    path: Path | UPath
    block_rows: int = BLOCK_ROWS

    def __iter__(self) -> Iterator[pd.DataFrame]:
        """Read one block after the other."""
        with self._open() as file:
            for batch in file.iter_batches(self.block_rows):
                yield batch.to_pandas()

    def __len__(self) -> int:
        """Return the number of rows."""
        with self._open() as file:
            return int(file.metadata.num_rows)

    @property
    def types(self) -> dict[str, np.dtype[Any]]:
        """Types of the columns by name if all are numbers without gaps; else empty."""
        with self._open() as file:
            fields = list(file.schema_arrow)
            groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
        for place, field in enumerate(fields):
            gaps = [group.column(place).statistics for group in groups]
            is_number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
            if not is_number or any(found is None or found.null_count for found in gaps):
                return {}
        return {field.name: np.dtype(field.type.to_pandas_dtype()) for field in fields}

    def column(self, name: str) -> np.ndarray:
        """Return a whole column, [rows]."""
        with self._open() as file:
            return file.read([name])[name].to_pandas().to_numpy()

    def gathered(self, positions: np.ndarray, scratch: Path) -> Iterator[pd.DataFrame]:
        """Return the rows at some positions, in the order of the positions, in blocks.

        Every row is read once, and written once to a file of the block that it belongs to; then each of these files is
        sorted. For a single block, nothing is written.

        Args:
            positions: int [n], distinct.
            scratch: directory for these files, which take as much space as the rows in memory. It must exist.

        Returns:
            Blocks with the column ``row`` (int64), the position.
        """
        places = np.full(len(self), -1, np.int64)
        places[positions] = np.arange(len(positions))
        rows = self._placed(places)
        if len(positions) <= self.block_rows:
            yield _ordered(pd.concat(rows, ignore_index=True))
            return
        with TemporaryDirectory(dir=scratch) as folder:
            files = [Path(folder, f"{number}.arrow") for number in range(-(-len(positions) // self.block_rows))]
            with ExitStack() as stack:
                writers: dict[int, pa.ipc.RecordBatchFileWriter] = {}
                for part in rows:
                    numbers = part[_PLACE].to_numpy() // self.block_rows
                    ends = np.searchsorted(numbers, np.arange(len(files) + 1))
                    for number in np.unique(numbers).tolist():
                        own = part.iloc[ends[number] : ends[number + 1]]
                        table = pa.Table.from_pandas(own, preserve_index=False)
                        if number not in writers:
                            writers[number] = stack.enter_context(pa.ipc.new_file(files[number], table.schema))
                        writers[number].write_table(table)
            for file in files:
                with pa.OSFile(str(file)) as source:
                    block = pa.ipc.open_file(source).read_all().to_pandas()
                yield _ordered(block)
                file.unlink()

    def _placed(self, places: np.ndarray) -> Iterator[pd.DataFrame]:
        """Return the rows that have a place, with it, in blocks; each ordered by the block that a row belongs to."""
        start = 0
        for block in self:
            own = places[start : start + len(block)]
            chosen = np.flatnonzero(own >= 0)
            belongs = own[chosen] // self.block_rows
            # A sort of few small numbers is fast.
            chosen = chosen[
                np.argsort(belongs.astype(np.min_scalar_type(len(places) // self.block_rows)), kind="stable")
            ]
            yield block.take(chosen).assign(row=start + chosen, **{_PLACE: own[chosen]})
            start += len(block)

    @contextmanager
    def _open(self) -> Iterator[pq.ParquetFile]:
        with self.path.open("rb") as file, pq.ParquetFile(file) as parquet:
            yield parquet


def _ordered(rows: pd.DataFrame) -> pd.DataFrame:
    order = np.argsort(rows[_PLACE].to_numpy())
    return rows.drop(columns=_PLACE).take(order).reset_index(drop=True)


class BlockWriter:
    """Writes a Parquet file in blocks. The file has its old content until the new one is committed.

    A block is encoded in another thread, while the next one is computed. A context that ends without a commit leaves
    the old content.

    Args:
        path: of the file, local or on any fsspec file system.

    Attributes:
        rows: number of rows written.
        head: the first rows.
    """

    def __init__(self, path: Path | UPath) -> None:
        self._path = path
        self._replacement = Replacement(path)
        self._file = _Hashed(self._replacement.file)
        self._writer: pq.ParquetWriter | None = None
        self._thread, self._writing = ThreadPoolExecutor(1), Future[None]()
        self._writing.set_result(None)
        self.rows, self.head = 0, pd.DataFrame()

    def append(self, block: pd.DataFrame) -> None:
        """Write a block; all have the same columns, with the same types. It must not be changed afterwards.

        Raises:
            OSError: an earlier block cannot be written.
        """
        if self._writer is None:
            table = pa.Table.from_pandas(block, preserve_index=False)
            self._writer = pq.ParquetWriter(self._file, table.schema, dictionary_pagesize_limit=_DICTIONARY_BYTES)
            self.head = block.head(HEAD_ROWS)
        else:
            table = pa.Table.from_pandas(block, schema=self._writer.schema, preserve_index=False)
        self._writing.result()
        if len(block) or not self.rows:
            self._writing = self._thread.submit(self._writer.write_table, table, BLOCK_ROWS)
        self.rows += len(block)

    def finish(self) -> str:
        """Write the end of the file and return its digest, see ``ml.files.digest``. Nothing can be added then."""
        self._writing.result()
        if self._writer is None:
            raise ValueError(f"{self._path}: no block was written; expected at least one, which may be empty")
        self._writer.close()
        self._file.close()
        self._replacement.finish()
        return self._file.digest

    def commit(self) -> str:
        """Finish the file and let it replace the old one; return its digest."""
        digest = self.finish()
        self._replacement.commit()
        return digest

    def __enter__(self) -> "BlockWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()
        with suppress(OSError, pa.ArrowException):  # such as a full disk, which has raised before
            if self._writer is not None and not self._file.closed:
                self._writer.close()
        with suppress(OSError):
            self._file.close()
        self._replacement.discard()


class _Hashed(io.RawIOBase):
    """A file to write to that knows the SHA-256 of what was written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._inner, self._hash = file, hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._hash.update(data)
        return self._inner.write(data)

    def tell(self) -> int:
        return self._inner.tell()

    def close(self) -> None:
        self._inner.close()
        super().close()

    @property
    def digest(self) -> str:
        return shortened(self._hash)
