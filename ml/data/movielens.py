"""Parse MovieLens-1M's ``::``-separated files to typed frames.

Every value is validated; the first invalid one raises DataError with file, line and value.
"""

import datetime as dt
import re
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

_SEPARATOR = b"::"
# pyarrow supports only one-byte separators. Control characters are refused in the input, so this one is free.
_DELIMITER = "\x1f"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"  # may precede UTF-8 text
# Latin-1 decodes every byte; control codes can only come from another encoding or from damage.
_UNDECODABLE = {
    "latin-1": re.compile(rb"[\x00-\x09\x0b-\x1f\x7f-\x9f]"),
    # The same, and the replacement character (U+FFFD), which marks text damaged by an earlier decoding.
    "utf-8": re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]|\xef\xbf\xbd"),
}
_LONGEST_LINE = 65_536  # bytes; pyarrow rejects lines longer than a block
_SHOWN = 100  # characters of an invalid value in a message
DTYPES: dict[str, dict[str, str]] = {
    "users": {"user_id": "int32", "gender": "str", "age": "int32", "occupation": "int32", "zip": "str"},
    "movies": {"movie_id": "int32", "title": "str", "genres": "str"},
    "ratings": {"user_id": "int32", "movie_id": "int32", "rating": "int8", "timestamp": "int64"},
}
_YEAR_3000 = 32_503_680_000
_DAY = dt.timedelta(days=1)
_INT64_DIGITS = 18  # always fit into int64
_TITLE_AND_YEAR = r"\S.*\([0-9]{4}\)$"


@dataclass(frozen=True)
class RawTables:
    """The three raw files as frames: rows in file order, columns as in ``ml.schema``.

    Attributes:
        users: user_id, age, occupation int32; gender, zip str.
        movies: movie_id int32; title, genres str.
        ratings: user_id, movie_id int32; rating int8; timestamp int64 (seconds since 1970, UTC).
    """

    users: pd.DataFrame
    movies: pd.DataFrame
    ratings: pd.DataFrame


def today() -> dt.date:
    """Return the current date, UTC."""
    return dt.datetime.now(dt.UTC).date()


def read_movielens(directory: Path, day: dt.date | None = None) -> RawTables:
    """Read users.dat, movies.dat and ratings.dat, and check that ratings refer to known users and movies.

    Args:
        directory: directory of the files.
        day: current date; no rating may be later than the next day. Default: today.

    Returns:
        The three tables.

    Raises:
        DataError: a file is missing, empty or malformed; names file, line, value and what was expected.
    """
    users = read_users(directory / "users.dat")
    movies = read_movies(directory / "movies.dat")
    ratings = read_ratings(directory / "ratings.dat")
    path = directory / "ratings.dat"
    require_until(path, ratings, (day or today()) + _DAY, "tomorrow")
    for column, known, of in (("user_id", users, "a user of users.dat"), ("movie_id", movies, "a movie of movies.dat")):
        require(path, ratings[column].isin(known[column]), ratings[column], f"{column} of {of}")
    return RawTables(users, movies, ratings)


def read_users(path: Path) -> pd.DataFrame:
    """Read users.dat; see ``RawTables.users``. Raises DataError."""
    frame = _read_typed(path, "users")
    require(path, frame["gender"].isin(schema.GENDERS), frame["gender"], f"gender one of {', '.join(schema.GENDERS)}")
    ages = tuple(schema.AGE_GROUPS)
    require(path, frame["age"].isin(ages), frame["age"], f"age one of {', '.join(map(str, ages))}")
    last = len(schema.OCCUPATIONS) - 1
    require(path, frame["occupation"].between(0, last), frame["occupation"], f"occupation from 0 to {last}")
    require(path, frame["zip"] != "", frame["zip"], "a zip code")
    _require_unique(path, frame, ["user_id"])
    return frame


def read_movies(path: Path) -> pd.DataFrame:
    """Read movies.dat; see ``RawTables.movies``. Raises DataError."""
    frame = _read_typed(path, "movies")
    with_year = frame["title"].str.contains(_TITLE_AND_YEAR, regex=True)
    require(path, with_year, frame["title"], "a title that ends in its year in parentheses, such as 'Heat (1995)'")
    named = frame["genres"].str.fullmatch(r"[^|]+(\|[^|]+)*")
    require(path, named, frame["genres"], "genres joined by '|', such as 'Comedy|Drama'")
    _require_unique(path, frame, ["movie_id"])
    return frame


def read_ratings(path: Path) -> pd.DataFrame:
    """Read ratings.dat; see ``RawTables.ratings``. Raises DataError."""
    frame = read_rerated(path)
    _require_unique(path, frame, ["user_id", "movie_id"])
    return frame


def read_rerated(path: Path) -> pd.DataFrame:
    """Read a file like ratings.dat that may have several ratings per user and movie. Raises DataError."""
    frame = _read_typed(path, "ratings")
    latest = frame["timestamp"] < _YEAR_3000
    require(path, latest, frame["timestamp"], "a timestamp in seconds since 1970, before the year 3000")
    require(path, frame["rating"].between(1, 5), frame["rating"], "a rating from 1 to 5")
    return frame


def require(path: Path, valid: pd.Series, values: pd.Series, expected: str) -> None:
    """Check the rows of a file, one per line. Raises DataError with line and value of the first invalid one."""
    bad = np.flatnonzero(~valid.to_numpy(dtype=bool))
    if bad.size:
        _fail(path, int(bad[0]) + 1, str(values.iloc[bad[0]]), expected)


def require_until(path: Path, ratings: pd.DataFrame, last: dt.date, which: str) -> None:
    """Check that no rating is later than a date, since recommendations are made for the latest month in the data.

    Args:
        path: path of the file, for the message.
        ratings: its rows, with timestamp (int64, Unix seconds).
        last: latest date allowed, UTC.
        which: what that date is, for the message.

    Raises:
        DataError: names the line and the timestamp of the first later rating.
    """
    end = dt.datetime.combine(last, dt.time(), dt.UTC).timestamp() + _DAY.total_seconds()
    times = ratings["timestamp"]
    require(path, times < end, times, f"a timestamp no later than {last}, {which} (seconds since 1970, UTC)")


def split_title(titles: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Split titles such as ``"Heat (1995)"`` into ``"Heat"`` (str) and 1995 (int16)."""
    years = titles.str[-5:-1].astype(np.int16)
    return titles.str[:-6].str.rstrip(), years


def _read_typed(path: Path, kind: str) -> pd.DataFrame:
    """Read a file of one of the kinds in ``DTYPES``; integers are validated."""
    table = _read_strings(path, list(DTYPES[kind]))
    columns = {
        name: table[name].to_pandas() if dtype == "str" else _integers(path, table[name], name, dtype)
        for name, dtype in DTYPES[kind].items()
    }
    return pd.DataFrame(columns)


def _read_strings(path: Path, columns: list[str]) -> pa.Table:
    """Read all fields of a file as strings, one row per line: row i is line i + 1."""
    data, encoding = _read_bytes(path)
    wrong: list[pa.csv.InvalidRow] = []

    def stop_at_row(row: pa.csv.InvalidRow) -> str:  # pyarrow ignores exceptions raised in a handler
        wrong.append(row)
        return "error"

    try:
        return pa.csv.read_csv(
            pa.BufferReader(data.replace(_SEPARATOR, _DELIMITER.encode())),
            # pyarrow knows a row's number only with one thread.
            read_options=pa.csv.ReadOptions(column_names=columns, encoding=encoding, use_threads=False),
            parse_options=pa.csv.ParseOptions(
                delimiter=_DELIMITER,
                quote_char=False,
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
        _fail(path, row.number, row.text.replace(_DELIMITER, "::"), f"{row.expected_columns} fields separated by '::'")


def _read_bytes(path: Path) -> tuple[bytes, str]:
    """Return a file's bytes and encoding: UTF-8 if its non-ASCII bytes are valid UTF-8, otherwise Latin-1."""
    if not path.is_file():
        names = ", ".join(schema.RAW_FILES)
        raise DataError(f"{path}: missing; expected a MovieLens-1M directory with {names}")
    data = path.read_bytes().replace(b"\r\n", b"\n")
    marked = data.startswith(_BYTE_ORDER_MARK)
    data = data.removeprefix(_BYTE_ORDER_MARK)
    if not data.strip():
        raise DataError(f"{path}: empty; expected lines of fields separated by '::'")
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


def _refuse_long_lines(path: Path, data: bytes) -> None:
    ends = np.flatnonzero(np.frombuffer(data + b"\n", np.uint8) == ord("\n"))
    starts = np.concatenate([[0], ends[:-1] + 1])
    long = np.flatnonzero(ends - starts > _LONGEST_LINE)
    if long.size:
        start = int(starts[long[0]])
        text = data[start : start + 2 * _SHOWN].decode("latin-1")
        _fail(path, int(long[0]) + 1, text, f"a line of at most {_LONGEST_LINE:,} bytes")


def _refuse_lines_of_utf8(path: Path, data: bytes) -> None:
    """Refuse a file that mixes both encodings: reading it as Latin-1 would damage part of it."""
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.isascii():
            continue
        try:
            text = line.decode()
        except UnicodeDecodeError:
            continue
        _fail(path, number, text, "Latin-1, as in other lines; save the whole file as UTF-8")


def _fail_at(path: Path, data: bytes, position: int, expected: str) -> NoReturn:
    _fail(path, data.count(b"\n", 0, position) + 1, f"byte 0x{data[position]:02x}", expected)


def _integers(path: Path, texts: pa.ChunkedArray, column: str, dtype: str) -> np.ndarray:
    largest = min(int(np.iinfo(dtype).max), 10**_INT64_DIGITS - 1)
    if column.endswith("_id"):
        largest = schema.LARGEST_ID
    expected = f"{column} as a whole number from 0 to {largest}"
    readable = pc.and_(pc.ascii_is_decimal(texts), pc.less_equal(pc.utf8_length(texts), _INT64_DIGITS))
    require(path, readable.to_pandas(), texts.to_pandas(), expected)
    numbers = texts.cast(pa.int64())
    require(path, pc.less_equal(numbers, largest).to_pandas(), texts.to_pandas(), expected)
    return numbers.to_numpy().astype(dtype)


def _require_unique(path: Path, frame: pd.DataFrame, key: list[str]) -> None:
    repeated = frame.duplicated(key)
    values = frame[key].astype(str).agg("::".join, axis=1) if repeated.any() else frame[key[0]]
    require(path, ~repeated, values, f"{' and '.join(key)} only once in the file")


def _fail(path: Path, line: int, value: str, expected: str) -> NoReturn:
    if len(value) > _SHOWN:
        value = f"{value[:_SHOWN]}…"
    raise DataError(f"{path}, line {line}: found {value!r}, expected {expected}; fix or replace the file")
