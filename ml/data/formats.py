"""The formats of raw files: which files a data set has, and how their rows are read and checked."""

import datetime as dt
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ml.data.lines import Layout, Lines, read_lines, require, require_unique
from ml.data.manifest import MOVIES, RATINGS, USERS
from ml.errors import DataError

_DAY = dt.timedelta(days=1)
_KEYS = {USERS: ["user_id"], MOVIES: ["movie_id"], RATINGS: ["user_id", "movie_id"]}


@dataclass(frozen=True)
class RawTables:
    """The raw tables of a data set: rows in file order, columns as in its format.

    Attributes:
        users: user_id int32; further columns int32 or str. Without a file of users, the users who have rated, by id.
        movies: movie_id int32; title, genres str.
        ratings: user_id, movie_id int32; rating int8, or float32 in half stars; timestamp int64 (seconds since 1970,
            UTC).
    """

    users: pd.DataFrame
    movies: pd.DataFrame
    ratings: pd.DataFrame


@dataclass(frozen=True)
class FileFormat:
    """One kind of file.

    Attributes:
        name: the file's name.
        layout: how its lines are divided.
        dtypes: columns of its table, with their types.
        parse: makes the table of the lines, every value validated.
    """

    name: str
    layout: Layout
    dtypes: Mapping[str, str]
    parse: Callable[[Lines], pd.DataFrame]

    @property
    def suffix(self) -> str:
        """The end of the file's name, which batches of its kind have too, such as ``.dat``."""
        return Path(self.name).suffix


@dataclass(frozen=True)
class Format:
    """The format of a MovieLens release.

    Attributes:
        name: what to call it.
        files: the files by kind; some releases have no file of users.
    """

    name: str
    files: Mapping[str, FileFormat]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its files."""
        return tuple(file.name for file in self.files.values())

    def require_files(self, directory: Path) -> None:
        """Raise DataError if a file is missing."""
        if missing := [name for name in self.names if not (directory / name).is_file()]:
            raise DataError(f"{directory}: lacks {', '.join(missing)}; expected {', '.join(self.names)}")

    def file_of(self, kind: str) -> FileFormat:
        """The file from which a kind of table is made; without a file of users, they are taken from the ratings."""
        return self.files.get(kind, self.files[RATINGS])

    def dtypes(self, kind: str) -> Mapping[str, str]:
        """Columns of a table with their types."""
        return self.files[kind].dtypes if kind in self.files else {"user_id": self.files[RATINGS].dtypes["user_id"]}

    def read(self, directory: Path, day: dt.date | None = None) -> RawTables:
        """Read all files, and check that ratings refer to known users and movies.

        Args:
            directory: directory of the files.
            day: current date; no rating may be later than the next day. Default: today.

        Raises:
            DataError: a file is missing, empty or malformed; names file, line, value and what was expected.
        """
        self.require_files(directory)
        tables = {kind: self.read_file(kind, directory / file.name) for kind, file in self.files.items()}
        ratings, file = tables[RATINGS], self.files[RATINGS]
        path, first = directory / file.name, file.layout.first_line
        require_until(path, ratings, (day or today()) + _DAY, "tomorrow", first)
        for kind in (USERS, MOVIES):
            if kind in tables:
                (key,), one = _KEYS[kind], f"a {kind.removesuffix('s')} of {self.files[kind].name}"
                require(path, ratings[key].isin(tables[kind][key]), ratings[key], f"{key} of {one}", first)
        users = tables[USERS] if USERS in tables else raters(ratings)
        return RawTables(users, tables[MOVIES], ratings)

    def read_file(self, kind: str, path: Path, may_repeat: bool = False) -> pd.DataFrame:
        """Read one file.

        Args:
            kind: which of the files it is like.
            path: path of the file.
            may_repeat: whether several rows may have the same key, such as several ratings of a movie by a user.

        Raises:
            DataError: as above.
        """
        file = self.files[kind]
        frame = file.parse(read_lines(path, file.layout)).astype(dict(file.dtypes))
        if not may_repeat:
            require_unique(path, frame, _KEYS[kind], file.layout)
        return frame


def today() -> dt.date:
    """Return the current date, UTC."""
    return dt.datetime.now(dt.UTC).date()


def raters(ratings: pd.DataFrame) -> pd.DataFrame:
    """Return the users who have rated, by id; for a data set without a file of users."""
    return pd.DataFrame({"user_id": np.sort(ratings["user_id"].unique())})


def require_until(path: Path, ratings: pd.DataFrame, last: dt.date, which: str, first_line: int = 1) -> None:
    """Check that no rating is later than a date, since recommendations are made for the latest month in the data.

    Args:
        path: path of the file, for the message.
        ratings: its rows, with timestamp (int64, Unix seconds).
        last: latest date allowed, UTC.
        which: what that date is, for the message.
        first_line: number of the first row's line.

    Raises:
        DataError: names the line and the timestamp of the first later rating.
    """
    end = dt.datetime.combine(last, dt.time(), dt.UTC).timestamp() + _DAY.total_seconds()
    times = ratings["timestamp"]
    expected = f"a timestamp no later than {last}, {which} (seconds since 1970, UTC)"
    require(path, times < end, times, expected, first_line)
