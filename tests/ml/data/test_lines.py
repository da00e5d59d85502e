"""Reading in blocks; what a file may contain is tested with the formats."""

from pathlib import Path

import pytest

from ml.data import lines
from ml.data.lines import Layout, read_lines
from ml.errors import DataError

LAYOUT = Layout({"id": "id", "name": "name"}, ",", has_header=True)
ROWS = [(str(number), f"Ångström {number}" if number % 7 == 0 else f"Harbour {number}") for number in range(60)]


@pytest.fixture(params=[40, 64, 200, 2**25], ids=str)
def _block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """How many bytes are read at once."""
    monkeypatch.setattr(lines, "_BLOCK", request.param)


pytestmark = pytest.mark.usefixtures("_block")


def write(path: Path, rows: list[tuple[str, str]], encoding: str = "utf-8", end: str = "\n") -> Path:
    text = end.join(",".join(row) for row in [("id", "name"), *rows]) + end
    path.write_bytes(text.encode(encoding))
    return path


def read(path: Path) -> list[tuple[str, str]]:
    tables = [found.table for found in read_lines(path, LAYOUT)]
    return [
        row for table in tables for row in zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
    ]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_lines_are_read_in_any_blocks(tmp_path: Path, encoding: str, end: str) -> None:
    assert read(write(tmp_path / "a.csv", ROWS, encoding, end)) == ROWS


def test_the_last_line_may_lack_its_end(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ROWS)
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    assert read(path) == ROWS


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (("50", "a", "b"), "line 52: found '50,a,b', expected 2 fields"),
        (("50", "a\x07b"), "line 52: found 'byte 0x07', expected Latin-1 or UTF-8 text"),
        (("50", '"a'), "line 52: found '50,\"a', expected fields quoted"),
        (("50", "a" * 70_000), "line 52: found '50,aaa"),
    ],
)
def test_the_line_of_an_error_is_counted_over_all_blocks(tmp_path: Path, row: tuple[str, ...], expected: str) -> None:
    path = write(tmp_path / "a.csv", [*ROWS[:50], row, *ROWS[50:]])  # type: ignore[list-item]
    with pytest.raises(DataError) as error:
        read(path)
    assert expected in str(error.value)


def test_places_are_those_of_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", ROWS)
    for found in read_lines(path, LAYOUT):
        first = int(found.table["id"][0].as_py())
        assert found.place.first == first + LAYOUT.first_line


def test_both_encodings_in_one_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    text = "\n".join(f"{number},Harbour" for number in range(40))
    path.write_bytes(f"id,name\n{text}\n".encode() + "40,Å\n".encode() + "41,Å\n".encode("latin-1"))
    with pytest.raises(DataError, match="line 42: found '40,Å', expected Latin-1, as in other lines"):
        read(path)


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_single_row_may_lack_its_end(tmp_path: Path, end: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(f"id,name\n1,Harbour{end}")
    assert read(path) == [("1", "Harbour")]


@pytest.mark.parametrize("text", ["id,name", "id,name\n", "id,name\n\n \n"])
def test_a_header_without_rows_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(DataError, match="no rows"):
        read(path)


def test_a_tab_is_refused_in_rows_only(tmp_path: Path) -> None:
    path, layout = tmp_path / "a.csv", Layout({"id": "id"}, ",", has_header=True, has_others=True)
    path.write_text("id,na\tme\n1,x\n")
    assert [found.table["id"].to_pylist() for found in read_lines(path, layout)] == [["1"]]
    path.write_text("id,name\n1,x\n2,a\tb\n")
    with pytest.raises(DataError, match="line 3: found 'byte 0x09'"):
        list(read_lines(path, layout))
