"""Read the files of any MovieLens to typed tables.

Each release has one of four formats (https://grouplens.org/datasets/movielens/): that of MovieLens-1M, of 10M, of 100K,
or the CSV files of all others. Every value is validated; the first invalid one raises DataError with file, line and
value.
"""

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ml import schema
from ml.data.lines import Layout, Lines, read_lines, require, require_unique
from ml.data.manifest import MOVIES, RATINGS, USERS
from ml.errors import DataError

_YEAR_3000 = 32_503_680_000
_DAY = dt.timedelta(days=1)
_TITLE_AND_YEAR = r"\S.*\([0-9]{4}\)$"
# A year may be the first of a range, such as (2006-2007) or (1983-), and be followed by spaces.
_YEAR_IN_TITLE = r"^(.*\S)\s*\(([0-9]{4})(?:[-\u2013][0-9]{0,4})?\)\s*$"
_KEYS = {USERS: ["user_id"], MOVIES: ["movie_id"], RATINGS: ["user_id", "movie_id"]}
_USERS = {"user_id": "int32", "gender": "str", "age": "int32", "occupation": "int32", "zip": "str"}
_MOVIES = {"movie_id": "int32", "title": "str", "genres": "str"}
_RATINGS = {"user_id": "int32", "movie_id": "int32", "rating": "int8", "timestamp": "int64"}
_GENRE_FLAGS = (
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
)


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
        parse: makes the table's columns of the lines, every value validated.
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
        return self.files[kind].dtypes if kind in self.files else {"user_id": "int32"}

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


def split_title(titles: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Split titles such as ``"Heat (1995)"`` into ``"Heat"`` (str) and 1995 (int16); ``schema.NO_YEAR`` without one."""
    parts = titles.str.extract(_YEAR_IN_TITLE)
    years = parts[1].fillna(str(schema.NO_YEAR)).astype(np.int16)
    return parts[0].fillna(titles.str.strip()).astype("str"), years


def _users_1m(lines: Lines) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "user_id": lines.integers("user_id", np.int32, schema.LARGEST_ID),
            "gender": lines.strings("gender"),
            "age": lines.integers("age", np.int32),
            "occupation": lines.integers("occupation", np.int32),
            "zip": lines.strings("zip"),
        }
    )
    _require_profile(lines, frame)
    ages, last = tuple(schema.AGE_GROUPS), len(schema.OCCUPATIONS) - 1
    lines.require(frame["age"].isin(ages), frame["age"], f"age one of {_listed(ages)}")
    lines.require(frame["occupation"].between(0, last), frame["occupation"], f"occupation from 0 to {last}")
    return frame


def _users_100k(lines: Lines) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "user_id": lines.integers("user_id", np.int32, schema.LARGEST_ID),
            "gender": lines.strings("gender"),
            "age": lines.integers("age", np.int32),
            "occupation": lines.strings("occupation"),
            "zip": lines.strings("zip"),
        }
    )
    _require_profile(lines, frame)
    lines.require(frame["age"].between(1, 150), frame["age"], "age in years from 1 to 150")
    lines.require(frame["occupation"] != "", frame["occupation"], "an occupation")
    return frame


def _require_profile(lines: Lines, frame: pd.DataFrame) -> None:
    genders = schema.GENDERS
    lines.require(frame["gender"].isin(genders), frame["gender"], f"gender one of {_listed(genders)}")
    lines.require(frame["zip"] != "", frame["zip"], "a zip code")


def _movies_1m(lines: Lines) -> pd.DataFrame:
    frame = _movies(lines)
    with_year = frame["title"].str.contains(_TITLE_AND_YEAR, regex=True)
    lines.require(with_year, frame["title"], "a title that ends in its year in parentheses, such as 'Heat (1995)'")
    return frame


def _movies(lines: Lines) -> pd.DataFrame:
    frame = _titled(lines).assign(genres=lines.strings("genres"))
    named = frame["genres"].str.fullmatch(r"[^|]+(\|[^|]+)*")
    lines.require(named, frame["genres"], "genres joined by '|', such as 'Comedy|Drama'")
    return frame


def _movies_100k(lines: Lines) -> pd.DataFrame:
    flags = {name: lines.strings(name) for name in _GENRE_FLAGS}
    for name, column in flags.items():
        lines.require(column.isin(["0", "1"]), column, f"0 or 1 for the genre {name}")
    has = np.column_stack([(column == "1").to_numpy() for column in flags.values()])
    genres = ["|".join(name for name, own in zip(flags, row, strict=True) if own) for row in has]
    return _titled(lines).assign(genres=pd.Series(genres, dtype="str").replace("", schema.NO_GENRES))


def _titled(lines: Lines) -> pd.DataFrame:
    ids, titles = lines.integers("movie_id", np.int32, schema.LARGEST_ID), lines.strings("title")
    lines.require(titles.str.strip() != "", titles, "a title")
    return pd.DataFrame({"movie_id": ids, "title": titles})


def _whole_stars(lines: Lines) -> pd.DataFrame:
    frame = _rated(lines).assign(rating=lines.integers("rating", np.int8))
    lines.require(frame["rating"].between(1, 5), frame["rating"], "a rating from 1 to 5")
    return frame


def _half_stars(lines: Lines) -> pd.DataFrame:
    texts = lines.strings("rating")
    expected = "a rating from 0.5 to 5 in steps of 0.5"
    lines.require(texts.str.fullmatch(r"(0\.5|[1-4](\.[05]0*)?|5(\.0+)?)"), texts, expected)
    return _rated(lines).assign(rating=texts.astype(np.float32))


def _rated(lines: Lines) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "user_id": lines.integers("user_id", np.int32, schema.LARGEST_ID),
            "movie_id": lines.integers("movie_id", np.int32, schema.LARGEST_ID),
            "rating": 0,
            "timestamp": lines.integers("timestamp", np.int64),
        }
    )
    latest = frame["timestamp"] < _YEAR_3000
    lines.require(latest, frame["timestamp"], "a timestamp in seconds since 1970, before the year 3000")
    return frame


def _layout(columns: Sequence[str], separator: str) -> Layout:
    return Layout({name: name for name in columns}, separator)


def _listed(values: Sequence[object]) -> str:
    return ", ".join(map(str, values))


_HALF_STARS = {**_RATINGS, "rating": "float32"}
_DAT_MOVIES, _DAT_RATINGS = _layout([*_MOVIES], "::"), _layout([*_RATINGS], "::")
MOVIELENS_1M = Format(
    "MovieLens-1M",
    {
        USERS: FileFormat("users.dat", _layout([*_USERS], "::"), _USERS, _users_1m),
        MOVIES: FileFormat("movies.dat", _DAT_MOVIES, _MOVIES, _movies_1m),
        RATINGS: FileFormat("ratings.dat", _DAT_RATINGS, _RATINGS, _whole_stars),
    },
)
MOVIELENS_10M = Format(
    "MovieLens-10M",
    {
        MOVIES: FileFormat("movies.dat", _DAT_MOVIES, _MOVIES, _movies),
        RATINGS: FileFormat("ratings.dat", _DAT_RATINGS, _HALF_STARS, _half_stars),
    },
)
MOVIELENS_100K = Format(
    "MovieLens-100K",
    {
        USERS: FileFormat(
            "u.user",
            _layout(["user_id", "age", "gender", "occupation", "zip"], "|"),
            {**_USERS, "occupation": "str"},
            _users_100k,
        ),
        MOVIES: FileFormat(
            "u.item",
            _layout(["movie_id", "title", "released", "released_on_video", "imdb_url", *_GENRE_FLAGS], "|"),
            _MOVIES,
            _movies_100k,
        ),
        RATINGS: FileFormat("u.data", _layout([*_RATINGS], "\t"), _RATINGS, _whole_stars),
    },
)
MOVIELENS_CSV = Format(
    "MovieLens CSV",
    {
        MOVIES: FileFormat(
            "movies.csv",
            Layout({"movieId": "movie_id", "title": "title", "genres": "genres"}, ",", has_header=True),
            _MOVIES,
            _movies,
        ),
        RATINGS: FileFormat(
            "ratings.csv",
            Layout(
                {"userId": "user_id", "movieId": "movie_id", "rating": "rating", "timestamp": "timestamp"},
                ",",
                has_header=True,
            ),
            _HALF_STARS,
            _half_stars,
        ),
    },
)
FORMATS = (MOVIELENS_1M, MOVIELENS_CSV, MOVIELENS_100K, MOVIELENS_10M)  # in the order in which they are looked for


def format_named(name: str) -> Format:
    """Return the format of a name. Raises DataError."""
    if not (found := [each for each in FORMATS if each.name == name]):
        raise DataError(f"format {name!r}; expected one of {', '.join(each.name for each in FORMATS)}")
    return found[0]


def recognized(directory: Path) -> Format:
    """Return the format of a directory's files.

    Raises:
        DataError: there is no such directory, it has the files of no format, or those of several.
    """
    if not directory.is_dir():
        raise DataError(f"{directory}: no such directory")
    found = [each for each in FORMATS if all((directory / name).is_file() for name in each.names)]
    # A directory of MovieLens-1M has the files of MovieLens-10M too.
    found = [each for each in found if not any({*each.names} < {*other.names} for other in found)]
    if len(found) > 1:
        names = " and ".join(each.name for each in found)
        raise DataError(f"{directory}: has the files of {names}; expected those of one format; remove the others")
    if not found:
        raise DataError(f"{directory}: {_lacking(directory)}")
    return found[0]


def _lacking(directory: Path) -> str:
    """What a directory lacks of the format of which it has most files, or what it should have."""
    missing, closest = min(
        (([name for name in each.names if not (directory / name).is_file()], each) for each in FORMATS),
        key=lambda found: len(found[0]) / len(found[1].names),
    )
    if len(missing) < len(closest.names):
        return f"lacks {', '.join(missing)}; expected {', '.join(closest.names)}, as {closest.name} has"
    known = "; ".join(f"{', '.join(each.names)} ({each.name})" for each in FORMATS)
    return f"has no files of a known format; expected one of: {known}"
