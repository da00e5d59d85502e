"""Read text files of delimited lines, and name the line of what cannot be accepted.

Every field is a string first. What a file's columns mean is decided by its reader.
"""

import csv
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from ml import schema
from ml.errors import DataError

# pyarrow supports only one-byte separators. Control characters are refused in the input, so this one is free.
_DELIMITER = "\x1f"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # may precede UTF-8 text
# Control characters except tab and line feed. Latin-1 decodes every byte; control codes can only come from another
# encoding or from damage.
_CONTROL = bytes(code for code in (*range(32), 127) if code not in b"\t\n")
_UNDECODABLE = {
    "latin-1": re.compile(rb"[\x00-\x08\x0b-\x1f\x7f-\x9f]"),
    # The same, and the replacement character (U+FFFD), which marks text damaged by an earlier decoding.
    "utf-8": re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xef\xbf\xbd"),
}
_BLOCK = 2**25  # bytes that are read at once
_TEXT = "Latin-1 or UTF-8 text without control characters"  # what a file must be
_LONGEST_LINE = 65_536  # bytes; pyarrow rejects lines longer than a block
_SHOWN = 100  # characters of an invalid value in a message
_INT64_DIGITS = 18  # always fit into int64
_QUOTED = re.compile(rb'(?:"(?:[^"]|"")*"|[^",]*)(?:,(?:"(?:[^"]|"")*"|[^",]*))*')  # a line, by RFC 4180


@dataclass(frozen=True)
class Layout:
    """How the lines of a file are divided into columns.

    Attributes:
        columns: names of the columns, by the names in the header; the same names where there is no header.
        separator: between fields; one with a comma has quotes as in RFC 4180.
        has_header: whether the first line names the columns.
        has_others: whether there may be other columns, in any order; they are not read.
    """

    columns: Mapping[str, str]
    separator: str
    has_header: bool = False
    has_others: bool = False

    @property
    def first_line(self) -> int:
        """Number of the line with the first row."""
        return 2 if self.has_header else 1


@dataclass(frozen=True)
class Place:
    """Where the rows of a table come from, for messages.

    Attributes:
        path: path of the file.
        first: number of the first row.
        unit: what is numbered: ``line``, or ``row`` where there are no lines.
    """

    path: Path
    first: int = 1
    unit: str = "line"

    def require(self, valid: pd.Series | np.ndarray, values: pd.Series, expected: str) -> None:
        """Check the rows.

        Args:
            valid: bool [rows].
            values: [rows], for the message.
            expected: for the message.

        Raises:
            DataError: names line and value of the first invalid row.
        """
        bad = np.flatnonzero(~np.asarray(valid, dtype=bool))
        if bad.size:
            self.fail(int(bad[0]), str(values.iloc[bad[0]]), expected)

    def require_unique(self, frame: pd.DataFrame, key: list[str]) -> None:
        """Check that no two rows have the same key. Raises DataError."""
        repeated = np.flatnonzero(frame.duplicated(key))
        if repeated.size:
            value = ", ".join(map(str, frame[key].iloc[repeated[0]].tolist()))
            self.fail(int(repeated[0]), value, f"{' and '.join(key)} only once in the file")

    def fail(self, row: int, value: str, expected: str) -> NoReturn:
        """Raise DataError for a value in a row; rows count from 0."""
        if len(value) > _SHOWN:
            value = f"{value[:_SHOWN]}…"
        where = f"{self.path}, {self.unit} {row + self.first}"
        raise DataError(f"{where}: found {value!r}, expected {expected}; fix or replace the file")


@dataclass(frozen=True)
class Lines:
    """The fields of a file as strings.

    Attributes:
        place: the file, for messages.
        table: one row per line, all columns string.
    """

    place: Place
    table: pa.Table

    def require(self, valid: pd.Series | np.ndarray, values: pd.Series, expected: str) -> None:
        """Check the rows. Raises DataError with line and value of the first invalid one."""
        self.place.require(valid, values, expected)

    def typed(self, dtypes: Mapping[str, str]) -> pd.DataFrame:
        """Return columns of these types, ``str`` or integers; ids go up to ``schema.LARGEST_ID``. Raises DataError."""
        columns = {
            name: self.table[name].to_pandas() if dtype == "str" else self._integers(name, dtype)
            for name, dtype in dtypes.items()
        }
        return pd.DataFrame(columns)

    def numbers(self, column: str, dtype: str) -> np.ndarray:
        """Return a column whose texts are known to be numbers, [lines]."""
        return self.table[column].cast(pa.from_numpy_dtype(dtype)).to_numpy()

    def _integers(self, column: str, dtype: str) -> np.ndarray:
        """Parse a column of whole numbers from 0. Raises DataError."""
        texts = self.table[column]
        largest = min(int(np.iinfo(dtype).max), 10**_INT64_DIGITS - 1)
        if column.endswith("_id"):
            largest = schema.LARGEST_ID
        expected = f"{column} as a whole number from 0 to {largest}"
        if column == "timestamp":
            expected = "a timestamp in seconds since 1970, a whole number"
        readable = pc.and_(pc.ascii_is_decimal(texts), pc.less_equal(pc.utf8_length(texts), _INT64_DIGITS))
        self.require(readable.to_pandas(), texts.to_pandas(), expected)
        numbers = texts.cast(pa.int64())
        self.require(pc.less_equal(numbers, largest).to_pandas(), texts.to_pandas(), expected)
        return numbers.to_numpy().astype(dtype)


def read_lines(path: Path, layout: Layout) -> Iterator[Lines]:
    """Read the fields of a file as strings, in blocks of lines, so that a file may be larger than memory.

    Raises:
        DataError: the file is missing, empty or malformed; names line, value and what was expected.
    """
    encoding, names, line = _encoding_of(path, layout), [*layout.columns], 1
    has_rows = False
    for read in _blocks(path):
        place, data = Place(path, line), read
        line += read.count(b"\n") + (not read.endswith(b"\n"))
        _refuse_undecodable(place, data, encoding)
        if place.first < layout.first_line:
            data, names = _without_header(path, data, encoding, layout)
            place = Place(path, layout.first_line)
            if not data.strip():  # the header is alone in its block
                continue
        if layout.separator != "\t" and b"\t" in data:
            _fail_at(place, data, data.index(b"\t"), _TEXT)
        table = _parsed(place, data, encoding, layout, names).select([*layout.columns])
        yield Lines(place, table.rename_columns([*layout.columns.values()]))
        has_rows = True
    if not has_rows:
        raise DataError(f"{path}: no rows; expected lines of fields separated by {layout.separator!r}")


def _blocks(path: Path) -> Iterator[bytes]:
    """Read a file in blocks of whole lines that end with a line feed, without a byte order mark."""
    with path.open("rb") as file:
        rest = file.read(len(_BYTE_ORDER_MARK)).removeprefix(_BYTE_ORDER_MARK)
        while read := file.read(_BLOCK):
            data = rest + read
            end = data.rfind(b"\n") + 1
            if not end and len(data) > _LONGEST_LINE:  # which is found out by who gets it
                end = len(data)
            rest = data[end:]
            if end:
                yield data[:end].replace(b"\r\n", b"\n")
        if rest:
            yield rest.replace(b"\r\n", b"\n")


def _parsed(place: Place, data: bytes, encoding: str, layout: Layout, columns: list[str]) -> pa.Table:
    if quoted := layout.separator == ",":
        _require_quotes(place, data, encoding)
    else:
        data = data.replace(layout.separator.encode(), _DELIMITER.encode())
    wrong: list[pa.csv.InvalidRow] = []

    def stop_at_row(row: pa.csv.InvalidRow) -> str:  # pyarrow ignores exceptions raised in a handler
        wrong.append(row)
        return "error"

    try:
        return pa.csv.read_csv(
            pa.BufferReader(data),
            # pyarrow knows a row's number only with one thread.
            read_options=pa.csv.ReadOptions(column_names=columns, encoding=encoding, use_threads=False),
            parse_options=pa.csv.ParseOptions(
                delimiter="," if quoted else _DELIMITER,
                quote_char='"' if quoted else False,
                ignore_empty_lines=False,
                invalid_row_handler=stop_at_row,
            ),
            convert_options=pa.csv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False
            ),
        )
    except pa.ArrowInvalid:
        if not wrong:
            raise
        row = wrong[0]
        text = row.text.replace(_DELIMITER, layout.separator)
        place.fail(row.number - 1, text, f"{row.expected_columns} fields separated by {layout.separator!r}")


def _encoding_of(path: Path, layout: Layout) -> str:
    """Return a file's encoding: UTF-8 if its non-ASCII bytes are valid UTF-8, otherwise Latin-1. Raises DataError."""
    if not path.is_file():
        raise DataError(f"{path}: missing; expected a file with the columns {', '.join(layout.columns)}")
    if not any(data.strip() for data in _blocks(path)):
        raise DataError(f"{path}: empty; expected lines of fields separated by {layout.separator!r}")
    with path.open("rb") as file:
        marked = file.read(len(_BYTE_ORDER_MARK)) == _BYTE_ORDER_MARK
    line = 1
    for data in _blocks(path):
        try:
            data.isascii() or data.decode()
        except UnicodeDecodeError as error:
            if marked:
                _fail_at(Place(path, line), data, error.start, "UTF-8 text, as declared by the byte order mark")
            return "latin-1"
        line += data.count(b"\n")
    return "utf-8"


def _refuse_undecodable(place: Place, data: bytes, encoding: str) -> None:
    """Raise DataError for lines that are too long, or bytes that are not text."""
    _refuse_long_lines(place, data)
    if encoding == "latin-1":
        _refuse_lines_of_utf8(place, data)
    is_plain = data.isascii() and len(data.translate(None, _CONTROL)) == len(data)  # 10 times as fast as the search
    if not is_plain and (bad := _UNDECODABLE[encoding].search(data)):
        _fail_at(place, data, bad.start(), _TEXT)


def _without_header(path: Path, data: bytes, encoding: str, layout: Layout) -> tuple[bytes, list[str]]:
    """Return the lines after the header, and the names of all columns in the file."""
    header, _, rest = data.partition(b"\n")
    found, place = header.decode(encoding), Place(path)
    names = next(csv.reader([found], delimiter=layout.separator), [])
    if not layout.has_others and names != [*layout.columns]:
        place.fail(0, found, f"the header {layout.separator.join(layout.columns)!r}")
    if missing := [name for name in layout.columns if names.count(name) != 1]:
        place.fail(0, found, f"a header that names each of these columns once: {', '.join(missing)}")
    if len(set(names)) < len(names):
        place.fail(0, found, "a header that names each column once")
    return rest, names


def _require_quotes(place: Place, data: bytes, encoding: str) -> None:
    """Raise DataError unless every line with a quotation mark quotes as RFC 4180 says."""
    if b'"' not in data:
        return
    for row, line in enumerate(data.split(b"\n")):
        if b'"' in line and not _QUOTED.fullmatch(line):
            place.fail(row, line.decode(encoding), "fields quoted as RFC 4180 says, each on one line")


def _refuse_long_lines(place: Place, data: bytes) -> None:
    ends = np.flatnonzero(np.frombuffer(data + b"\n", np.uint8) == ord("\n"))
    starts = np.concatenate([[0], ends[:-1] + 1])
    long = np.flatnonzero(ends - starts > _LONGEST_LINE)
    if long.size:
        start = int(starts[long[0]])
        text = data[start : start + 2 * _SHOWN].decode("latin-1")
        place.fail(int(long[0]), text, f"a line of at most {_LONGEST_LINE:,} bytes")


def _refuse_lines_of_utf8(place: Place, data: bytes) -> None:
    """Refuse a file that mixes both encodings: reading it as Latin-1 would damage part of it."""
    for row, line in enumerate(data.split(b"\n")):
        if line.isascii():
            continue
        try:
            text = line.decode()
        except UnicodeDecodeError:
            continue
        place.fail(row, text, "Latin-1, as in other lines; save the whole file as UTF-8")


def _fail_at(place: Place, data: bytes, position: int, expected: str) -> NoReturn:
    place.fail(data.count(b"\n", 0, position), f"byte 0x{data[position]:02x}", expected)
