"""The formats of raw files: which files a data set has, how their rows are read and checked, and its features."""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ml.data.lines import Place
from ml.data.manifest import MOVIES, RATINGS, USERS
from ml.errors import DataError
from ml.schema import Description

_DAY = dt.timedelta(days=1)
Prepare = Callable[[pd.DataFrame, pd.DataFrame], pd.DataFrame]
KEYS = {USERS: ["user_id"], MOVIES: ["movie_id"], RATINGS: ["user_id", "movie_id"]}


@dataclass(frozen=True)
class RawTables:
    """The raw tables of a data set: rows in file order, columns as in its format. Ids are int32 or str.

    Attributes:
        users: user_id; further columns. Without a file of users, the users who have rated, by id.
        movies: movie_id; further columns. Without a file of movies, the movies that were rated, by id.
        ratings: user_id, movie_id; rating int8, or float32 if it is no whole number; timestamp int64 (seconds since
            1970, UTC).
    """

    users: pd.DataFrame
    movies: pd.DataFrame
    ratings: pd.DataFrame


@dataclass(frozen=True)
class FileFormat:
    """One kind of file.

    Attributes:
        name: the file's name, or a pattern of names; relative to the directory of the data set.
        dtypes: columns of its table, with their types.
        read_rows: reads a file of its kind and validates every value. Raises DataError.
        first: number of the first row, for messages.
        unit: what messages call a row: ``line`` or ``row``.
    """

    name: str
    dtypes: Mapping[str, str]
    read_rows: Callable[[Path], pd.DataFrame]
    first: int = 1
    unit: str = "line"

    @property
    def suffix(self) -> str:
        """The end of the file's name, which batches of its kind have too, such as ``.dat``."""
        return Path(self.name).suffix

    def place(self, path: Path) -> Place:
        """Where the rows of a file come from, for messages."""
        return Place(path, self.first, self.unit)

    def paths(self, directory: Path) -> list[Path]:
        """The files in a directory, sorted by name; none if there is no such file."""
        root = Path(Path(self.name).anchor) if Path(self.name).is_absolute() else directory
        pattern = Path(self.name).relative_to(root) if root != directory else Path(self.name)
        return sorted(path for path in root.glob(str(pattern)) if path.is_file())


@dataclass(frozen=True)
class Format:
    """The format of a data set.

    Attributes:
        name: what to call it.
        files: the files by kind; only ratings are always there.
        description: what its tables mean, once preprocessed.
        prepare_users: derives the features of users, given their raw rows and those of the base files, of which
            nothing derived changes when batches come.
        prepare_movies: the same for movies.
        may_repeat: whether the files may have several ratings of a movie by a user, of which the latest counts.
    """

    name: str
    files: Mapping[str, FileFormat]
    description: Description
    prepare_users: Prepare
    prepare_movies: Prepare
    may_repeat: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its files."""
        return tuple(file.name for file in self.files.values())

    def require_files(self, directory: Path) -> None:
        """Raise DataError if a file is missing."""
        if missing := [file.name for file in self.files.values() if not file.paths(directory)]:
            raise DataError(f"{directory}: lacks {', '.join(missing)}; expected {', '.join(self.names)}")

    def file_of(self, kind: str) -> FileFormat:
        """The file from which a kind of table is made; without one of its own, its keys are taken from the ratings."""
        return self.files.get(kind, self.files[RATINGS])

    def dtypes(self, kind: str) -> Mapping[str, str]:
        """Columns of a table with their types."""
        return self.files[kind].dtypes if kind in self.files else self._keys(kind)

    def read(self, directory: Path, day: dt.date | None = None) -> RawTables:
        """Read all files, and check that ratings refer to known users and movies.

        Args:
            directory: directory of the files.
            day: current date; no rating may be later than the next day. Default: today.

        Raises:
            DataError: a file is missing, empty or malformed; names file, line, value and what was expected.
        """
        self.require_files(directory)
        tables = {kind: self._read_kind(kind, directory) for kind in self.files if kind != RATINGS}
        parts = []
        for path in self.files[RATINGS].paths(directory):
            part, place = self.read_file(RATINGS, path, self.may_repeat), self.files[RATINGS].place(path)
            require_until(place, part, (day or today()) + _DAY, "tomorrow")
            for kind, table in tables.items():
                (key,), one = KEYS[kind], f"a {kind.removesuffix('s')} of {self.files[kind].name}"
                place.require(part[key].isin(table[key]), part[key], f"{key} of {one}")
            parts.append(part)
        ratings = self._whole(RATINGS, directory, parts)
        if self.may_repeat:
            ratings = latest(ratings)
        users, movies = (tables[kind] if kind in tables else self._rated(kind, ratings) for kind in (USERS, MOVIES))
        return RawTables(users, movies, ratings)

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
        frame = file.read_rows(path).astype(dict(file.dtypes))
        if not may_repeat:
            file.place(path).require_unique(frame, KEYS[kind])
        return frame

    def _read_kind(self, kind: str, directory: Path) -> pd.DataFrame:
        return self._whole(kind, directory, [self.read_file(kind, path) for path in self.files[kind].paths(directory)])

    def _whole(self, kind: str, directory: Path, parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
        """Concatenate the tables of several files. Raises DataError if two have a row of the same key."""
        if len(parts) == 1:  # which was checked when it was read
            return parts[0]
        whole = pd.concat(parts, ignore_index=True)
        repeated = whole.duplicated(KEYS[kind])
        if repeated.any() and not (kind == RATINGS and self.may_repeat):
            value = ", ".join(map(str, whole.loc[repeated, KEYS[kind]].iloc[0].tolist()))
            what = " and ".join(KEYS[kind])
            raise DataError(f"{directory / self.files[kind].name}: found {what} {value} in two files, expected in one")
        return whole

    def _rated(self, kind: str, ratings: pd.DataFrame) -> pd.DataFrame:
        """Return the users who have rated, or the movies that were rated, by id."""
        (key,) = KEYS[kind]
        return ratings[[key]].drop_duplicates().sort_values(key, ignore_index=True)

    def _keys(self, kind: str) -> Mapping[str, str]:
        return {key: self.files[RATINGS].dtypes[key] for key in KEYS[kind]}


def latest(ratings: pd.DataFrame) -> pd.DataFrame:
    """Return the latest rating of each user and movie, in file order; of equal times, the last row."""
    ordered = ratings.sort_values("timestamp", kind="stable")
    kept = ~ordered.duplicated(KEYS[RATINGS], keep="last")
    return ratings[kept.sort_index()].reset_index(drop=True)


def today() -> dt.date:
    """Return the current date, UTC."""
    return dt.datetime.now(dt.UTC).date()


def require_until(place: Place, ratings: pd.DataFrame, last: dt.date, which: str) -> None:
    """Check that no rating is later than a date, since recommendations are made for the latest month in the data.

    Args:
        place: where the rows come from, for the message.
        ratings: rows with timestamp (int64, Unix seconds).
        last: latest date allowed, UTC.
        which: what that date is, for the message.

    Raises:
        DataError: names the line and the timestamp of the first later rating.
    """
    end = dt.datetime.combine(last, dt.time(), dt.UTC).timestamp() + _DAY.total_seconds()
    times = ratings["timestamp"]
    expected = f"a timestamp no later than {last}, {which} (seconds since 1970, UTC)"
    place.require(times < end, times, expected)
