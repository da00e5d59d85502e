import errno
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from upath import UPath

from ml.data.blocks import Blocks, BlockWriter
from ml.files import digest


def table(rows: int) -> pd.DataFrame:
    draws = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "user_id": np.arange(rows, dtype=np.int32),
            "title": pd.Series([f"Harbour {number}" for number in range(rows)], dtype="str"),
            "rating": draws.random(rows).astype(np.float32),
        }
    )


def write(path: Path | UPath, frame: pd.DataFrame, block_rows: int) -> str:
    with BlockWriter(path) as writer:
        for start in range(0, max(len(frame), 1), block_rows):
            writer.append(frame.iloc[start : start + block_rows])
        assert writer.rows == len(frame)
        pd.testing.assert_frame_equal(writer.head, frame.head(min(5, block_rows)))
        return writer.commit()


@pytest.mark.parametrize("rows", [0, 1, 99, 100, 101, 250])
def test_what_is_written_in_blocks_is_read_in_blocks(tmp_path: Path, rows: int) -> None:
    frame = table(rows)
    found = write(tmp_path / "table.parquet", frame, 100)
    assert found == digest((tmp_path / "table.parquet").read_bytes())
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "table.parquet"), frame)
    blocks = Blocks(tmp_path / "table.parquet", 64)
    read = [*blocks]
    assert all(0 < len(block) <= 64 for block in read)
    pd.testing.assert_frame_equal(pd.concat([frame.iloc[:0], *read], ignore_index=True), frame)
    assert len(blocks) == rows
    np.testing.assert_array_equal(blocks.column("rating"), frame["rating"].to_numpy())


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    assert write(tmp_path / "a.parquet", table(250), 100) == write(tmp_path / "b.parquet", table(250), 100)


def test_a_file_can_lie_on_a_remote_file_system() -> None:
    path = UPath("memory://blocks/table.parquet")
    write(path, table(250), 100)
    pd.testing.assert_frame_equal(pd.concat(Blocks(path, 90), ignore_index=True), table(250))


@pytest.mark.parametrize("fails", [True, False])
def test_without_a_commit_the_old_content_stays(tmp_path: Path, fails: bool) -> None:
    path = tmp_path / "table.parquet"
    write(path, table(3), 100)
    try:
        with BlockWriter(path) as writer:
            writer.append(table(7))
            if fails:
                raise OSError("disk full")
    except OSError:
        assert fails
    pd.testing.assert_frame_equal(pd.read_parquet(path), table(3))
    assert [*tmp_path.iterdir()] == [path]


def test_blocks_must_have_the_same_columns(tmp_path: Path) -> None:
    with BlockWriter(tmp_path / "table.parquet") as writer:
        writer.append(table(3))
        with pytest.raises(KeyError, match="rating"):
            writer.append(table(3).drop(columns="rating"))


def test_a_table_without_a_block_is_refused(tmp_path: Path) -> None:
    with BlockWriter(tmp_path / "table.parquet") as writer, pytest.raises(ValueError, match="no block was written"):
        writer.finish()


@pytest.mark.parametrize(("block_rows", "sizes"), [(1000, [173]), (173, [173]), (50, [50, 50, 50, 23])])
def test_rows_are_gathered_in_the_order_of_their_positions(tmp_path: Path, block_rows: int, sizes: list[int]) -> None:
    frame = table(250)
    write(tmp_path / "table.parquet", frame, 100)
    positions = np.random.default_rng(2).permutation(250)[:173]
    (tmp_path / "scratch").mkdir()
    found = [*Blocks(tmp_path / "table.parquet", block_rows).gathered(positions, tmp_path / "scratch")]
    assert [len(block) for block in found] == sizes
    expected = frame.iloc[positions].assign(row=positions).reset_index(drop=True)
    pd.testing.assert_frame_equal(pd.concat(found, ignore_index=True), expected)
    assert not [*(tmp_path / "scratch").iterdir()]


def test_no_positions_are_no_rows(tmp_path: Path) -> None:
    write(tmp_path / "table.parquet", table(250), 100)
    [found] = Blocks(tmp_path / "table.parquet", 50).gathered(np.array([], int), tmp_path)
    assert (len(found), [*found]) == (0, ["user_id", "title", "rating", "row"])


class FullDisk(io.RawIOBase):
    """A file on a disk that has no space."""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    with BlockWriter(tmp_path / "table.parquet") as writer:
        writer._file._inner = io.BufferedWriter(FullDisk(), 2**20)  # whose content cannot be flushed at the end either
        writer.append(table(10))
        with pytest.raises(OSError, match="No space left"):
            writer.commit()
    assert not [*tmp_path.iterdir()]


def test_a_block_that_cannot_be_written_stops_the_next_one(tmp_path: Path) -> None:
    with BlockWriter(tmp_path / "table.parquet") as writer:
        writer.append(table(10))
        writer._writing.result()
        writer._file._inner = FullDisk()
        writer.append(table(10))
        with pytest.raises(OSError, match="No space left"):
            writer.append(table(10))
    assert not [*tmp_path.iterdir()]
