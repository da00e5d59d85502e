import errno
import mmap
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml.data import mapped
from ml.data.mapped import fill, mapped_array, mapped_table, read_table, release

BLOCK = pd.DataFrame(
    {
        "a": np.arange(6, dtype=np.int32), "b": np.arange(6, 12, dtype=np.int32), "c": np.arange(6, dtype=np.int8),
        "d": np.arange(6) * 10**10, "e": np.arange(6, dtype=np.int32),
    }
)  # fmt: skip


@pytest.fixture
def in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mapped, "LARGEST_IN_MEMORY", 0)


def is_mapped(array: np.ndarray) -> bool:
    """Return whether an array's values are in a file."""
    base: object = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base, mmap.mmap)


@pytest.mark.usefixtures("in_files")
def test_large_arrays_are_in_files_that_nobody_sees(tmp_path: Path) -> None:
    array = mapped_array((100, 3), np.float32, tmp_path)
    array[:] = np.arange(300).reshape(100, 3)
    release(array, array[5:])
    assert is_mapped(array)
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, np.arange(300).reshape(100, 3))
    assert not list(tmp_path.iterdir())


def test_small_arrays_are_in_memory() -> None:
    array = mapped_array((100, 3), np.float32)
    array[:] = 1
    release(array)
    assert not is_mapped(array)
    assert array.sum() == 300


@pytest.mark.parametrize("limit", [0, 2**20])
@pytest.mark.parametrize("rows", [1, 4, 6])
def test_table_has_the_rows_of_its_blocks(
    limit: int, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mapped, "LARGEST_IN_MEMORY", limit)
    table = mapped_table((BLOCK.iloc[at : at + rows] for at in range(0, 6, rows)), 6, tmp_path)
    pd.testing.assert_frame_equal(table, BLOCK)
    assert is_mapped(table[["a", "b"]].to_numpy()) == is_mapped(table["d"].to_numpy()) == (limit == 0)


def test_another_number_of_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match="found 6 rows in the blocks; expected 7"):
        mapped_table([BLOCK], 7)


@pytest.mark.usefixtures("in_files")
def test_fill_sets_all_rows(tmp_path: Path) -> None:
    array = fill(mapped_array((10,), np.int64, tmp_path), 4, lambda rows: np.arange(10)[rows] ** 2)
    assert array.tolist() == [n * n for n in range(10)]


@pytest.mark.usefixtures("in_files")
@pytest.mark.parametrize(
    ("table", "mapped"),
    [
        (BLOCK, True),
        (BLOCK.assign(b=BLOCK["b"].astype("float32") / 3), True),
        (BLOCK.assign(b="text"), False),
        (BLOCK.assign(b=BLOCK["b"].astype("Int64").where(BLOCK["b"] != 8)), False),
        (BLOCK.assign(b=pd.Timestamp("2000-01-01", tz="UTC")), False),
        (BLOCK.assign(b=pd.Categorical(list("abcabc"))), False),
    ],
    ids=["integers", "floats", "text", "gaps", "times", "categories"],
)
def test_tables_are_read_as_pandas_reads_them(table: pd.DataFrame, mapped: bool, tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    table.to_parquet(path, index=False, row_group_size=4)
    found = read_table(path, tmp_path)
    pd.testing.assert_frame_equal(found, pd.read_parquet(path))
    assert is_mapped(found["a"].to_numpy()) == mapped


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot reserve space")
@pytest.mark.usefixtures("in_files")
def test_a_full_disk_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, start: int, size: int) -> None:
        raise OSError(errno.ENOSPC, f"No space left for {size} bytes")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left for 1200 bytes"):
        mapped_array((100, 3), np.float32)
