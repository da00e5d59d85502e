"""Parse MovieLens-1M's ``::``-separated files to typed frames.

Every value is validated; the first bad one stops the reading with file, line and value.
"""

import re
from collections.abc import Sequence
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
# pyarrow reads one-byte separators only; control characters are refused in the input, so this one is free.
_DELIMITER = "\x1f"
# Latin-1 gives every byte a meaning; control codes can only come from another encoding or from damage.
_UNDECODABLE = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
DTYPES: dict[str, dict[str, str]] = {
    "users": {"user_id": "int32", "gender": "str", "age": "int32", "occupation": "int32", "zip": "str"},
    "movies": {"movie_id": "int32", "title": "str", "genres": "str"},
    "ratings": {"user_id": "int32", "movie_id": "int32", "rating": "int8", "timestamp": "int64"},
}
_YEAR_3000 = 32_503_680_000
_INT64_DIGITS = 18  # that surely fit
_YEAR_AT_END = r"\(\d{4}\)$"


@dataclass(frozen=True)
class RawTables:
    """The three raw files as frames, rows in file order, columns as in ``ml.schema``.

    Attributes:
        users: user_id, age, occupation int32; gender, zip str.
        movies: movie_id int32; title, genres str.
        ratings: user_id, movie_id int32; rating int8; timestamp int64 (seconds since 1970, UTC).
    """

    users: pd.DataFrame
    movies: pd.DataFrame
    ratings: pd.DataFrame


def read_movielens(directory: Path) -> RawTables:
    """Read users.dat, movies.dat and ratings.dat and check that the ratings refer to known users and movies.

    Raises:
        DataError: a file is missing, empty or malformed; names file, line, value and what was expected.
    """
    users = read_users(directory / "users.dat")
    movies = read_movies(directory / "movies.dat")
    ratings = read_ratings(directory / "ratings.dat")
    path = directory / "ratings.dat"
    for column, known, of in (("user_id", users, "a user of users.dat"), ("movie_id", movies, "a movie of movies.dat")):
        require(path, ratings[column].isin(known[column]), ratings[column], f"{column} of {of}")
    return RawTables(users, movies, ratings)


def read_users(path: Path) -> pd.DataFrame:
    """Read users.dat; see ``RawTables.users``. Raises DataError."""
    table = _read_strings(path, schema.RAW_USERS)
    frame = pd.DataFrame(
        {
            "user_id": _integers(path, table, "user_id", np.int32),
            "gender": table["gender"].to_pandas(),
            "age": _integers(path, table, "age", np.int32),
            "occupation": _integers(path, table, "occupation", np.int32),
            "zip": table["zip"].to_pandas(),
        }
    )
    require(path, frame["gender"].isin(schema.GENDERS), frame["gender"], f"gender one of {_listed(schema.GENDERS)}")
    ages = tuple(schema.AGE_GROUPS)
    require(path, frame["age"].isin(ages), frame["age"], f"age one of {_listed(ages)}")
    last = len(schema.OCCUPATIONS) - 1
    require(path, frame["occupation"].between(0, last), frame["occupation"], f"occupation from 0 to {last}")
    require(path, frame["zip"] != "", frame["zip"], "a zip code")
    _require_unique(path, frame, ["user_id"])
    return frame


def read_movies(path: Path) -> pd.DataFrame:
    """Read movies.dat; see ``RawTables.movies``. Raises DataError."""
    table = _read_strings(path, schema.RAW_MOVIES)
    frame = table.to_pandas()
    frame["movie_id"] = _integers(path, table, "movie_id", np.int32)
    with_year = frame["title"].str.contains(_YEAR_AT_END, regex=True)
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
    """Read a file like ratings.dat in which a user may have rated a movie again. Raises DataError."""
    table = _read_strings(path, schema.RAW_RATINGS)
    frame = pd.DataFrame(
        {
            "user_id": _integers(path, table, "user_id", np.int32),
            "movie_id": _integers(path, table, "movie_id", np.int32),
            "rating": _integers(path, table, "rating", np.int8),
            "timestamp": _integers(path, table, "timestamp", np.int64),
        }
    )
    latest = frame["timestamp"] < _YEAR_3000
    require(path, latest, frame["timestamp"], "a timestamp in seconds since 1970, before the year 3000")
    require(path, frame["rating"].between(1, 5), frame["rating"], "a rating from 1 to 5")
    return frame


def require(path: Path, valid: pd.Series, values: pd.Series, expected: str) -> None:
    """Check the rows of a file, one a line. Raises DataError that names the line and the value of the first bad one."""
    bad = np.flatnonzero(~valid.to_numpy(dtype=bool))
    if bad.size:
        _fail(path, int(bad[0]) + 1, str(values.iloc[bad[0]]), expected)


def split_title(titles: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Split ``"Heat (1995)"`` to the title ``"Heat"`` (str) and the year 1995 (int16), row by row."""
    years = titles.str[-5:-1].astype(np.int16)
    return titles.str[:-6].str.rstrip(), years


def _read_strings(path: Path, columns: Sequence[str]) -> pa.Table:
    """All fields of a file as strings, one row a line, so that row i stands at line i + 1."""
    data = _read_bytes(path)
    wrong: list[pa.csv.InvalidRow] = []

    def stop_at_row(row: pa.csv.InvalidRow) -> str:  # pyarrow swallows what a handler raises
        wrong.append(row)
        return "error"

    try:
        return pa.csv.read_csv(
            pa.BufferReader(data.replace(_SEPARATOR, _DELIMITER.encode())),
            # One thread, since only then does pyarrow know a row's number.
            read_options=pa.csv.ReadOptions(column_names=list(columns), encoding="latin-1", use_threads=False),
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


def _read_bytes(path: Path) -> bytes:
    if not path.is_file():
        names = ", ".join(schema.RAW_FILES)
        raise DataError(f"{path}: missing; expected a MovieLens-1M directory that holds {names}")
    data = path.read_bytes().replace(b"\r\n", b"\n")
    if not data.strip():
        raise DataError(f"{path}: empty; expected lines of fields separated by '::'")
    if bad := _UNDECODABLE.search(data):
        line = data.count(b"\n", 0, bad.start()) + 1
        _fail(path, line, f"byte 0x{bad[0][0]:02x}", "Latin-1 text without control characters")
    return data


def _integers(path: Path, table: pa.Table, column: str, dtype: type[np.integer]) -> np.ndarray:
    texts = table[column]
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
    raise DataError(f"{path}, line {line}: found {value!r}, expected {expected}; mend or replace the file")


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))
