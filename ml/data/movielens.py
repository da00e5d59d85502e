"""The four formats of the MovieLens releases (https://grouplens.org/datasets/movielens/).

They are those of MovieLens-1M, of 10M, of 100K, and the CSV files of all others. Every value is validated; the first
invalid one raises DataError with file, line and value.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from ml import schema
from ml.data.datasets import Reader
from ml.data.formats import FileFormat, Format
from ml.data.lines import Layout, Lines, read_lines
from ml.data.manifest import USERS
from ml.data.movielens_tables import preprocess_movies, preprocess_users
from ml.errors import DataError

_YEAR_3000 = 32_503_680_000
_TITLE_AND_YEAR = r"\S.*\([0-9]{4}\)$"
_USERS = {"user_id": "int32", "gender": "str", "age": "int32", "occupation": "int32", "zip": "str"}
_USERS_100K = {**_USERS, "occupation": "str"}
_MOVIES = {"movie_id": "int32", "title": "str", "genres": "str"}
_RATINGS = {"user_id": "int32", "movie_id": "int32", "rating": "int8", "timestamp": "int64"}
_HALF_STARS = {**_RATINGS, "rating": "float32"}
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


def _users_1m(lines: Lines) -> pd.DataFrame:
    frame = _profiles(lines, _USERS)
    ages, last = tuple(schema.AGE_GROUPS), len(schema.OCCUPATIONS) - 1
    lines.require(frame["age"].isin(ages), frame["age"], f"age one of {', '.join(map(str, ages))}")
    lines.require(frame["occupation"].between(0, last), frame["occupation"], f"occupation from 0 to {last}")
    return frame


def _users_100k(lines: Lines) -> pd.DataFrame:
    frame = _profiles(lines, _USERS_100K)
    lines.require(frame["age"].between(1, 150), frame["age"], "age in years from 1 to 150")
    lines.require(frame["occupation"].str.strip() != "", frame["occupation"], "an occupation")
    return frame


def _profiles(lines: Lines, dtypes: Mapping[str, str]) -> pd.DataFrame:
    frame, genders = lines.typed(dtypes), ", ".join(schema.GENDERS)
    lines.require(frame["gender"].isin(schema.GENDERS), frame["gender"], f"gender one of {genders}")
    lines.require(frame["zip"] != "", frame["zip"], "a zip code")
    return frame


def _movies_1m(lines: Lines) -> pd.DataFrame:
    frame = _movies(lines)
    with_year = frame["title"].str.contains(_TITLE_AND_YEAR, regex=True)
    lines.require(with_year, frame["title"], "a title that ends in its year in parentheses, such as 'Heat (1995)'")
    return frame


def _movies(lines: Lines) -> pd.DataFrame:
    frame = lines.typed(_MOVIES)
    lines.require(frame["title"].str.strip() != "", frame["title"], "a title")
    named = frame["genres"].str.fullmatch(r"[^|\s][^|]*(\|[^|\s][^|]*)*")
    lines.require(named, frame["genres"], f"genres joined by '|', such as 'Comedy|Drama', or '{schema.NO_GENRES}'")
    return frame


def _movies_100k(lines: Lines) -> pd.DataFrame:
    frame = lines.typed({"movie_id": "int32", "title": "str"} | dict.fromkeys(_GENRE_FLAGS, "str"))
    lines.require(frame["title"].str.strip() != "", frame["title"], "a title")
    for name in _GENRE_FLAGS:
        lines.require(frame[name].isin(["0", "1"]), frame[name], f"0 or 1 for the genre {name}")
    flags = (frame[[*_GENRE_FLAGS]] == "1").to_numpy()
    genres = ["|".join(np.array(_GENRE_FLAGS)[own]) or schema.NO_GENRES for own in flags]
    return frame[["movie_id", "title"]].assign(genres=pd.Series(genres, dtype="str"))


def _whole_stars(lines: Lines) -> pd.DataFrame:
    frame = _ratings(lines, {**_RATINGS, "rating": "str"})
    lines.require(frame["rating"].str.fullmatch("[1-5]"), frame["rating"], "a rating from 1 to 5")
    return frame.assign(rating=lines.numbers("rating", "int8"))


def _half_stars(lines: Lines) -> pd.DataFrame:
    frame = _ratings(lines, {**_HALF_STARS, "rating": "str"})
    expected = "a rating from 0.5 to 5 in steps of 0.5"
    lines.require(frame["rating"].str.fullmatch(r"(0\.50*|[1-4](\.[05]0*)?|5(\.0+)?)"), frame["rating"], expected)
    return frame.assign(rating=lines.numbers("rating", "float32"))


def _ratings(lines: Lines, dtypes: Mapping[str, str]) -> pd.DataFrame:
    frame = lines.typed(dtypes)
    latest = frame["timestamp"] < _YEAR_3000
    lines.require(latest, frame["timestamp"], "a timestamp in seconds since 1970, before the year 3000")
    return frame


def _text(name: str, layout: Layout, dtypes: Mapping[str, str], parse: Callable[[Lines], pd.DataFrame]) -> FileFormat:
    """A text file; ``parse`` makes the table of its lines."""

    def read_rows(path: Path) -> pd.DataFrame:
        return pd.concat([parse(lines) for lines in read_lines(path, layout)], ignore_index=True)

    return FileFormat(name, dtypes, read_rows, layout.first_line)


def _layout(columns: Sequence[str], separator: str) -> Layout:
    return Layout({name: name for name in columns}, separator)


def _csv(**columns: str) -> Layout:
    return Layout(columns, ",", has_header=True)


def _prepare_users(users: pd.DataFrame, base: pd.DataFrame) -> pd.DataFrame:
    return preprocess_users(users)


def _prepare_movies(movies: pd.DataFrame, base: pd.DataFrame) -> pd.DataFrame:
    return preprocess_movies(movies)


def _movielens(name: str, **files: FileFormat) -> Format:
    """A format of MovieLens, with the features that the columns of its users allow."""
    users = files[USERS].dtypes if USERS in files else {"user_id"}
    fields = tuple(field for field in schema.FIELDS if field.side != "user" or field.name in users)
    return Format(name, files, replace(schema.MOVIELENS, fields=fields), _prepare_users, _prepare_movies)


_DAT_MOVIES, _DAT_RATINGS = _layout([*_MOVIES], "::"), _layout([*_RATINGS], "::")
_USERS_ORDER_100K = ["user_id", "age", "gender", "occupation", "zip"]
_MOVIES_100K = ["movie_id", "title", "released", "released_on_video", "imdb_url", *_GENRE_FLAGS]
_CSV_MOVIES = _csv(movieId="movie_id", title="title", genres="genres")
_CSV_RATINGS = _csv(userId="user_id", movieId="movie_id", rating="rating", timestamp="timestamp")
MOVIELENS_1M = _movielens(
    "MovieLens-1M",
    users=_text("users.dat", _layout([*_USERS], "::"), _USERS, _users_1m),
    movies=_text("movies.dat", _DAT_MOVIES, _MOVIES, _movies_1m),
    ratings=_text("ratings.dat", _DAT_RATINGS, _RATINGS, _whole_stars),
)
MOVIELENS_10M = _movielens(
    "MovieLens-10M",
    movies=_text("movies.dat", _DAT_MOVIES, _MOVIES, _movies),
    ratings=_text("ratings.dat", _DAT_RATINGS, _HALF_STARS, _half_stars),
)
MOVIELENS_100K = _movielens(
    "MovieLens-100K",
    users=_text("u.user", _layout(_USERS_ORDER_100K, "|"), _USERS_100K, _users_100k),
    movies=_text("u.item", _layout(_MOVIES_100K, "|"), _MOVIES, _movies_100k),
    ratings=_text("u.data", _layout([*_RATINGS], "\t"), _RATINGS, _whole_stars),
)
MOVIELENS_CSV = _movielens(
    "MovieLens CSV",
    movies=_text("movies.csv", _CSV_MOVIES, _MOVIES, _movies),
    ratings=_text("ratings.csv", _CSV_RATINGS, _HALF_STARS, _half_stars),
)
FORMATS = (MOVIELENS_1M, MOVIELENS_CSV, MOVIELENS_100K, MOVIELENS_10M)  # in the order in which they are looked for
READERS: Mapping[Reader, Format] = {
    "movielens-100k": MOVIELENS_100K,
    "movielens-1m": MOVIELENS_1M,
    "movielens-10m": MOVIELENS_10M,
    "movielens-csv": MOVIELENS_CSV,
}


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
