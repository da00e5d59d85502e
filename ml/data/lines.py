"""Read text files of delimited lines, and name the line of what cannot be accepted.

Every field is a string first. What a file's columns mean is decided by its reader.
"""

import re
from collections.abc import Mapping
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
_UNDECODABLE = {
    "latin-1": re.compile(rb"[\x00-\x08\x0b-\x1f\x7f-\x9f]"),
    # The same, and the replacement character (U+FFFD), which marks text damaged by an earlier decoding.
    "utf-8": re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xef\xbf\xbd"),
}
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
    """

    columns: Mapping[str, str]
    separator: str
    has_header: bool = False

    @property
    def first_line(self) -> int:
        """Number of the line with the first row."""
        return 2 if self.has_header else 1


@dataclass(frozen=True)
class Lines:
    """The fields of a file as strings.

    Attributes:
        path: path of the file, for messages.
        layout: its layout.
        table: one row per line, all columns string.
    """

    path: Path
    layout: Layout
    table: pa.Table

    def require(self, valid: pd.Series | np.ndarray, values: pd.Series, expected: str) -> None:
        """Check the rows. Raises DataError with line and value of the first invalid one."""
        require(self.path, valid, values, expected, self.layout.first_line)

    def typed(self, dtypes: Mapping[str, str]) -> pd.DataFrame:
        """Return columns of these types, ``str`` or integers; ids go up to ``schema.LARGEST_ID``. Raises DataError."""
        columns = {
            name: self.table[name].to_pandas() if dtype == "str" else self._integers(name, dtype)
            for name, dtype in dtypes.items()
        }
        return pd.DataFrame(columns)

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


def require(path: Path, valid: pd.Series | np.ndarray, values: pd.Series, expected: str, first_line: int = 1) -> None:
    """Check the rows of a file, one per line.

    Args:
        path: path of the file, for the message.
        valid: bool [rows].
        values: [rows], for the message.
        expected: for the message.
        first_line: number of the first row's line.

    Raises:
        DataError: names line and value of the first invalid row.
    """
    bad = np.flatnonzero(~np.asarray(valid, dtype=bool))
    if bad.size:
        fail(path, int(bad[0]) + first_line, str(values.iloc[bad[0]]), expected)


def require_unique(path: Path, frame: pd.DataFrame, key: list[str], layout: Layout) -> None:
    """Check that no two rows have the same key. Raises DataError."""
    repeated = np.flatnonzero(frame.duplicated(key))
    if repeated.size:
        row = int(repeated[0])
        value = layout.separator.join(map(str, frame[key].iloc[row].tolist()))
        fail(path, row + layout.first_line, value, f"{' and '.join(key)} only once in the file")


def fail(path: Path, line: int, value: str, expected: str) -> NoReturn:
    """Raise DataError for a value in a line."""
    if len(value) > _SHOWN:
        value = f"{value[:_SHOWN]}…"
    raise DataError(f"{path}, line {line}: found {value!r}, expected {expected}; fix or replace the file")


def read_lines(path: Path, layout: Layout) -> Lines:
    """Read all fields of a file as strings; row i is line i plus ``layout.first_line``.

    Raises:
        DataError: the file is missing, empty or malformed; names line, value and what was expected.
    """
    data, encoding = _read_bytes(path, layout)
    if layout.has_header:
        data = _without_header(path, data, encoding, layout)
    if layout.separator != "\t" and b"\t" in data:
        _fail_at(path, data, data.index(b"\t"), "Latin-1 or UTF-8 text without control characters", layout)
    if layout.separator == ",":
        _require_quotes(path, data, encoding, layout)
    else:
        data = data.replace(layout.separator.encode(), _DELIMITER.encode())
    return Lines(path, layout, _parsed(path, data, encoding, layout))


def _parsed(path: Path, data: bytes, encoding: str, layout: Layout) -> pa.Table:
    columns, quoted = list(layout.columns.values()), layout.separator == ","
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
        expected = f"{row.expected_columns} fields separated by {layout.separator!r}"
        fail(path, row.number - 1 + layout.first_line, text, expected)


def _read_bytes(path: Path, layout: Layout) -> tuple[bytes, str]:
    """Return a file's bytes and encoding: UTF-8 if its non-ASCII bytes are valid UTF-8, otherwise Latin-1."""
    if not path.is_file():
        raise DataError(f"{path}: missing; expected a file with the columns {', '.join(layout.columns)}")
    data = path.read_bytes().replace(b"\r\n", b"\n")
    marked = data.startswith(_BYTE_ORDER_MARK)
    data = data.removeprefix(_BYTE_ORDER_MARK)
    if not data.strip():
        raise DataError(f"{path}: empty; expected lines of fields separated by {layout.separator!r}")
    encoding = "utf-8"
    _refuse_long_lines(path, data)
    try:
        data.decode()
    except UnicodeDecodeError as error:
        if marked:
            _fail_at(path, data, error.start, "UTF-8 text, as declared by the byte order mark")
        encoding = "latin-1"
        _refuse_lines_of_utf8(path, data)
    if bad := _UNDECODABLE[encoding].search(data):
        _fail_at(path, data, bad.start(), "Latin-1 or UTF-8 text without control characters")
    return data, encoding


def _without_header(path: Path, data: bytes, encoding: str, layout: Layout) -> bytes:
    header, _, rest = data.partition(b"\n")
    expected = layout.separator.join(layout.columns)
    if (found := header.decode(encoding)) != expected:
        fail(path, 1, found, f"the header {expected!r}")
    if not rest.strip():
        raise DataError(f"{path}: no rows; expected lines of fields separated by {layout.separator!r}")
    return rest


def _require_quotes(path: Path, data: bytes, encoding: str, layout: Layout) -> None:
    """Raise DataError unless every line with a quotation mark quotes as RFC 4180 says."""
    if b'"' not in data:
        return
    for number, line in enumerate(data.split(b"\n"), layout.first_line):
        if b'"' in line and not _QUOTED.fullmatch(line):
            fail(path, number, line.decode(encoding), "fields quoted as RFC 4180 says, each on one line")


def _refuse_long_lines(path: Path, data: bytes) -> None:
    ends = np.flatnonzero(np.frombuffer(data + b"\n", np.uint8) == ord("\n"))
    starts = np.concatenate([[0], ends[:-1] + 1])
    long = np.flatnonzero(ends - starts > _LONGEST_LINE)
    if long.size:
        start = int(starts[long[0]])
        text = data[start : start + 2 * _SHOWN].decode("latin-1")
        fail(path, int(long[0]) + 1, text, f"a line of at most {_LONGEST_LINE:,} bytes")


def _refuse_lines_of_utf8(path: Path, data: bytes) -> None:
    """Refuse a file that mixes both encodings: reading it as Latin-1 would damage part of it."""
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.isascii():
            continue
        try:
            text = line.decode()
        except UnicodeDecodeError:
            continue
        fail(path, number, text, "Latin-1, as in other lines; save the whole file as UTF-8")


def _fail_at(path: Path, data: bytes, position: int, expected: str, layout: Layout | None = None) -> NoReturn:
    first = layout.first_line if layout else 1
    fail(path, data.count(b"\n", 0, position) + first, f"byte 0x{data[position]:02x}", expected)
