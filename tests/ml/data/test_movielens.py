import datetime as dt
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml import schema
from ml.data.manifest import MOVIES as MOVIE_ROWS
from ml.data.manifest import RATINGS as RATING_ROWS
from ml.data.manifest import USERS as USER_ROWS
from ml.data.movielens import MOVIELENS_1M
from ml.data.movielens_tables import split_title
from ml.errors import DataError

USERS = [b"1::F::1::0::01234", b"2::M::56::20::98765-4321"]
MOVIES = [
    b"1::Brass Lantern (1995)::Comedy|Drama",
    b"3::Quiet Harbour, The (L\xe9ger Matin) (1931)::Film-Noir",
    b"952::Orbit: The Return: (2000) (1999)::Children's|Action|Sci-Fi|War",
]
FOREST = "4::Forêt (1931)::War".encode()
RATINGS = [b"1::3::5::978300760", b"1::1::1::978302109", b"2::3::4::0"]
read_movielens = MOVIELENS_1M.read
read_users, read_movies, read_ratings = (
    partial(MOVIELENS_1M.read_file, kind) for kind in (USER_ROWS, MOVIE_ROWS, RATING_ROWS)
)
LINES = {"users.dat": USERS, "movies.dat": MOVIES, "ratings.dat": RATINGS}
READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    "users.dat": read_users,
    "movies.dat": read_movies,
    "ratings.dat": read_ratings,
}


def write(directory: Path, end: bytes = b"\n", **changed: list[bytes]) -> Path:
    """Write the three files; ``ratings=[...]`` replaces the lines of ratings.dat, and so on."""
    for name, lines in LINES.items():
        own = changed.get(name.removesuffix(".dat"), lines)
        (directory / name).write_bytes(b"".join(line + end for line in own))
    return directory


def rows(frame: pd.DataFrame) -> list[tuple[object, ...]]:
    return list(frame.itertuples(index=False, name=None))


def refused(read: Callable[[Path], object], path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    return str(caught.value)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["lf", "crlf"])
def test_files_become_typed_frames_in_file_order(tmp_path: Path, end: bytes) -> None:
    tables = read_movielens(write(tmp_path, end))
    assert rows(tables.users) == [(1, "F", 1, 0, "01234"), (2, "M", 56, 20, "98765-4321")]
    assert rows(tables.movies) == [
        (1, "Brass Lantern (1995)", "Comedy|Drama"),
        (3, "Quiet Harbour, The (Léger Matin) (1931)", "Film-Noir"),
        (952, "Orbit: The Return: (2000) (1999)", "Children's|Action|Sci-Fi|War"),
    ]
    assert rows(tables.ratings) == [(1, 3, 5, 978300760), (1, 1, 1, 978302109), (2, 3, 4, 0)]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-8-sig"])
def test_files_may_have_different_encodings(tmp_path: Path, encoding: str) -> None:
    texts = ["Forêt (1931)", "À bout de souffle, « CAFÉ » (1960)", "Ålesund (1999)", "Ã© et © (2000)"]
    lines = [f"{number}::{text}::Drama".encode(encoding if number == 1 else encoding.removesuffix("-sig"))
             for number, text in enumerate(texts, 1)]  # fmt: skip
    tables = read_movielens(write(tmp_path, movies=lines, ratings=[b"1::3::5::0"]))
    assert tables.movies["title"].tolist() == texts
    assert tables.users["zip"].tolist() == ["01234", "98765-4321"]


def test_letters_that_latin_1_lacks_need_utf_8(tmp_path: Path) -> None:
    titles = ["七人の侍 (1954)", "Łódź (1962)"]
    path = tmp_path / "movies.dat"
    path.write_text("".join(f"{number}::{title}::War\n" for number, title in enumerate(titles)), "utf-8")
    assert read_movies(path)["title"].tolist() == titles


def test_ratings_after_tomorrow_are_refused(tmp_path: Path) -> None:
    day, second = dt.date(2001, 1, 1), 978_307_200  # midnight UTC
    write(tmp_path, ratings=[b"1::3::5::0", b"1::1::1::%d" % (second + 2 * 86_400 - 1)])
    assert len(read_movielens(tmp_path, day).ratings) == 2
    write(tmp_path, ratings=[b"1::3::5::0", b"1::1::1::%d" % (second + 2 * 86_400)])
    message = refused(lambda folder: read_movielens(folder, day), tmp_path)
    assert f"{tmp_path / 'ratings.dat'}, line 2: found '978480000', expected a timestamp" in message
    assert "no later than 2001-01-02, tomorrow" in message
    assert len(read_movielens(tmp_path).ratings) == 2  # today is later
    write(tmp_path, ratings=[b"1::3::5::7289654400"])  # in the year 2201
    assert "line 1: found '7289654400'" in refused(read_movielens, tmp_path)


def test_columns_have_the_declared_types(tmp_path: Path) -> None:
    tables = read_movielens(write(tmp_path))
    types = [{name: str(dtype) for name, dtype in frame.dtypes.items()} for frame in vars(tables).values()]
    assert types == [
        {"user_id": "int32", "gender": "str", "age": "int32", "occupation": "int32", "zip": "str"},
        {"movie_id": "int32", "title": "str", "genres": "str"},
        {"user_id": "int32", "movie_id": "int32", "rating": "int8", "timestamp": "int64"},
    ]


def test_ids_go_from_0_to_the_largest_that_tables_can_keep(tmp_path: Path) -> None:
    ids = [0, 7, schema.LARGEST_ID]
    users = read_users(write(tmp_path, users=[b"%d::F::1::0::1" % user for user in ids]) / "users.dat")
    movies = read_movies(write(tmp_path, movies=[b"%d::A (1990)::War" % movie for movie in ids]) / "movies.dat")
    assert users["user_id"].tolist() == movies["movie_id"].tolist() == ids


def test_last_line_may_lack_a_line_break(tmp_path: Path) -> None:
    path = write(tmp_path) / "ratings.dat"
    path.write_bytes(b"\n".join(RATINGS))
    assert len(read_ratings(path)) == len(RATINGS)


def test_words_for_missing_values_are_text(tmp_path: Path) -> None:
    users = read_users(write(tmp_path, users=[b"1::F::1::0::NA", b"2::M::1::0::null"]) / "users.dat")
    assert users["zip"].tolist() == ["NA", "null"]


def test_quotation_marks_are_text(tmp_path: Path) -> None:
    movies = read_movies(
        write(tmp_path, movies=[b'1::"Why, Not (1990)::Drama', b'2::So" (1991)::Drama']) / "movies.dat"
    )
    assert movies["title"].tolist() == ['"Why, Not (1990)', 'So" (1991)']


def test_split_title_takes_the_last_parentheses() -> None:
    titles = pd.Series(["Brass Lantern (1995)", "Orbit: (2000) (1999)", "Night (La Nuit) (1931)", "Tight(1950)"])
    texts, years = split_title(titles)
    assert texts.tolist() == ["Brass Lantern", "Orbit: (2000)", "Night (La Nuit)", "Tight"]
    assert years.tolist() == [1995, 1999, 1931, 1950]
    assert years.dtype == np.int16


# file, lines, number of the invalid line, what the message shows, what it expected
MALFORMED = {
    "users: too few fields": ("users.dat", [USERS[0], b"2::M::56::20"], 2, "'2::M::56::20'", "5 fields"),
    "users: too many fields": ("users.dat", [USERS[0] + b"::x", USERS[1]], 1, "'1::F::1::0::01234::x'", "5 fields"),
    "movies: too few fields": ("movies.dat", [b"1::Brass (1995)"], 1, "'1::Brass (1995)'", "3 fields"),
    "movies: separator in the title": ("movies.dat", [b"1::A::B (1995)::War"], 1, "'1::A::B (1995)::War'", "3 fields"),
    "ratings: too few fields": ("ratings.dat", [*RATINGS, b"2::1::4"], 4, "'2::1::4'", "4 fields"),
    "ratings: too many fields": ("ratings.dat", [*RATINGS, b"2::1::4::5::6"], 4, "'2::1::4::5::6'", "4 fields"),
    "ratings: single colons": ("ratings.dat", [b"2:1:4:5"], 1, "'2:1:4:5'", "4 fields"),
    "ratings: blank line": ("ratings.dat", [RATINGS[0], b"", RATINGS[1]], 2, "''", "user_id"),
    "ratings: blank last line": ("ratings.dat", [*RATINGS, b""], 4, "''", "user_id"),
    "movies: blank line": ("movies.dat", [MOVIES[0], b"", MOVIES[1]], 2, "''", "movie_id"),
    "user_id: word": ("users.dat", [USERS[0], b"two::M::1::0::1"], 2, "'two'", "user_id as a whole number"),
    "user_id: empty": ("ratings.dat", [RATINGS[0], b"::1::1::1"], 2, "''", "user_id as a whole number"),
    "user_id: space": ("ratings.dat", [b" 1::1::1::1"], 1, "' 1'", "user_id as a whole number"),
    "movie_id: fraction": ("movies.dat", [b"1.0::Brass (1995)::War"], 1, "'1.0'", "movie_id as a whole number"),
    "movie_id: sign": ("ratings.dat", [b"1::-3::1::1"], 1, "'-3'", "movie_id as a whole number"),
    "timestamp: word": ("ratings.dat", [RATINGS[0], b"1::1::1::noon"], 2, "'noon'", "a timestamp in seconds"),
    "rating: 0": ("ratings.dat", [RATINGS[0], b"1::1::0::1"], 2, "'0'", "a rating from 1 to 5"),
    "rating: 6": ("ratings.dat", [RATINGS[0], b"1::1::6::1"], 2, "'6'", "a rating from 1 to 5"),
    "rating: 4.5": ("ratings.dat", [RATINGS[0], b"1::1::4.5::1"], 2, "'4.5'", "a rating from 1 to 5"),
    "rating: -1": ("ratings.dat", [RATINGS[0], b"1::1::-1::1"], 2, "'-1'", "a rating from 1 to 5"),
    "user_id: too long": ("users.dat", [b"9999999999::F::1::0::1"], 1, "'9999999999'", "from 0 to 2147483647"),
    "user_id: past int32": ("users.dat", [b"2147483648::F::1::0::1"], 1, "'2147483648'", "from 0 to 2147483647"),
    "rating: too long": ("ratings.dat", [b"1::3::260::1"], 1, "'260'", "a rating from 1 to 5"),
    "timestamp: too long": ("ratings.dat", [b"1::3::1::" + b"9" * 19], 1, f"'{'9' * 19}'", "a whole number"),
    "gender": ("users.dat", [USERS[0], b"2::X::1::0::1"], 2, "'X'", "gender one of F, M"),
    "gender: lower case": ("users.dat", [b"2::f::1::0::1"], 1, "'f'", "gender one of F, M"),
    "age": ("users.dat", [USERS[0], b"2::M::17::0::1"], 2, "'17'", "age one of 1, 18, 25, 35, 45, 50, 56"),
    "occupation": ("users.dat", [USERS[0], b"2::M::1::21::1"], 2, "'21'", "occupation from 0 to 20"),
    "zip: empty": ("users.dat", [USERS[0], b"2::M::1::0::"], 2, "''", "a zip code"),
    "users: id twice": ("users.dat", [*USERS, b"1::M::1::0::1"], 3, "'1'", "user_id only once"),
    "movies: id twice": ("movies.dat", [*MOVIES, b"952::Brass (1995)::War"], 4, "'952'", "movie_id only once"),
    "ratings: pair twice": ("ratings.dat", [*RATINGS, b"1::3::2::7"], 4, "'1, 3'", "user_id and movie_id only once"),
    "title: no year": ("movies.dat", [MOVIES[0], b"2::Brass::War"], 2, "'Brass'", "ends in its year"),
    "title: year not last": ("movies.dat", [b"2::Brass (1995) II::War"], 1, "'Brass (1995) II'", "ends in its year"),
    "title: short year": ("movies.dat", [b"2::Brass (95)::War"], 1, "'Brass (95)'", "ends in its year"),
    "genres: empty": ("movies.dat", [MOVIES[0], b"2::Brass (1995)::"], 2, "''", "genres joined by '|'"),
    "genres: empty one": ("movies.dat", [b"2::Brass (1995)::War||Drama"], 1, "'War||Drama'", "genres joined by '|'"),
    "control byte": ("movies.dat", [MOVIES[0], b"2::Br\x07ss (1995)::War"], 2, "'byte 0x07'", "Latin-1 or UTF-8 text"),
    "null byte": ("ratings.dat", [*RATINGS, b"\x001::1::1::1"], 4, "'byte 0x00'", "Latin-1 or UTF-8 text"),
    "tab": ("users.dat", [USERS[0], b"2::M::1::0::\t"], 2, "'byte 0x09'", "Latin-1 or UTF-8 text"),
    "byte without a letter": ("movies.dat", [MOVIES[0], b"2::Br\x85ss (1995)::War"], 2, "0x85'", "Latin-1 or UTF-8"),
    "lone carriage return": ("users.dat", [USERS[0] + b"\r2::M::1::0::1"], 1, "'byte 0x0d'", "Latin-1 or UTF-8"),
    "byte order mark, not at the start": ("users.dat", [USERS[0], b"\xef\xbb\xbf" + USERS[1]], 2, "2'", "user_id as a"),
    "byte order mark before Latin-1": ("movies.dat", [b"\xef\xbb\xbf" + MOVIES[0], MOVIES[1]], 2, "0xe9'", "UTF-8"),
    "both encodings": ("movies.dat", [*MOVIES, FOREST], 4, "'4::Forêt (1931)::War'", "Latin-1, as in other lines"),
    "control character in UTF-8": ("movies.dat", [FOREST, b"2::B\xc2\x85 (1931)::War"], 2, "0xc2'", "without control"),
    "replacement character": ("movies.dat", ["1::For\ufffdt (1931)::War".encode()], 1, "0xef'", "without control"),
    "line past all bounds": ("movies.dat", [MOVIES[0], b"2::" + 2_000_000 * b"x" + b" (1995)::"], 2, "xx…'", "65,536"),
    "title: year alone": ("movies.dat", [MOVIES[0], b"2:: (1995)::War"], 2, "' (1995)'", "ends in its year"),
    "title: other digits": ("movies.dat", ["2::Brass (\u0661\u0669\u0669\u0665)::War".encode()], 1, ")'", "ends in"),
}  # fmt: skip


@pytest.mark.parametrize(("name", "lines", "line", "found", "expected"), MALFORMED.values(), ids=MALFORMED)
def test_malformed_line_is_named(
    tmp_path: Path, name: str, lines: list[bytes], line: int, found: str, expected: str
) -> None:
    path = tmp_path / name
    path.write_bytes(b"\n".join([*lines, b""]))
    message = refused(READERS[name], path)
    start, _, end = message.partition(", expected ")
    assert start.startswith(f"{path}, line {line}: found ")
    assert start.endswith(found)
    assert expected in end


@pytest.mark.parametrize(
    ("ratings", "line", "found", "expected"),
    [
        ([*RATINGS, b"3::1::4::1"], 4, "'3'", "user_id of a user of users.dat"),
        ([b"2::4::4::1", *RATINGS], 1, "'4'", "movie_id of a movie of movies.dat"),
    ],
    ids=["unknown user", "unknown movie"],
)
def test_rating_of_an_unknown_user_or_movie_is_named(
    tmp_path: Path, ratings: list[bytes], line: int, found: str, expected: str
) -> None:
    message = refused(read_movielens, write(tmp_path, ratings=ratings))
    assert f"{tmp_path / 'ratings.dat'}, line {line}: found {found}, expected {expected}" in message


@pytest.mark.parametrize("bad", [b"70001::1::2", b"70001::1::x::1"], ids=["fields", "value"])
def test_line_number_is_right_far_down_a_long_file(tmp_path: Path, bad: bytes) -> None:
    good = [b"%d::1::2::978300760" % user for user in range(1, 70_001)]
    path = write(tmp_path, ratings=[*good, bad, b"70002::1::2::1"]) / "ratings.dat"
    assert f"{path}, line 70001: found " in refused(read_ratings, path)


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\r\n", b"  \n"])
@pytest.mark.parametrize("name", LINES)
def test_empty_file_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (write(tmp_path) / name).write_bytes(content)
    assert refused(read_movielens, tmp_path).startswith(f"{tmp_path / name}: empty; expected lines")


@pytest.mark.parametrize("name", LINES)
def test_missing_file_is_named_with_the_expected_files(tmp_path: Path, name: str) -> None:
    (write(tmp_path) / name).unlink()
    message = refused(read_movielens, tmp_path)
    assert message == f"{tmp_path}: lacks {name}; expected users.dat, movies.dat, ratings.dat"
