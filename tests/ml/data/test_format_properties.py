"""Properties of the readers of all formats, with generated files.

What is written in a format is read back as it was. A file with any byte changed is read as sane tables, or refused with
its name and the line.
"""

import csv
import io
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml import schema
from ml.data.formats import Format, RawTables
from ml.data.movielens import FORMATS, MOVIELENS_1M, MOVIELENS_10M, MOVIELENS_100K, MOVIELENS_CSV, recognized
from ml.errors import DataError
from tests.ml.data.test_formats import FILES, write

Rows = list[tuple[Any, ...]]
Tables = Mapping[str, Rows]
FEW, MANY = 40, 500  # examples
REFUSED = re.compile(r".*(, line \d+: found .+, expected .+|: (empty|no rows); expected .+)", re.DOTALL)
IDS = st.integers(0, schema.LARGEST_ID)
TEXT = st.characters(blacklist_categories=("Cc", "Cs"), blacklist_characters="|\ufffd\x85\u2028\u2029")
GENRES = ("Action", "Animation", "Children's", "Comedy", "Film-Noir", "War")
FLAGS = [
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
]


def words() -> st.SearchStrategy[str]:
    """Texts that a field can have."""
    return st.text(TEXT, min_size=1, max_size=20).filter(lambda text: bool(text.strip()) and "::" not in text)


def movies_of(form: Format) -> st.SearchStrategy[tuple[str, str]]:
    """Title and genres."""
    # A "::" would come about where a title ends with one colon, too.
    title = words().filter(lambda text: not text.endswith(":") and not text.startswith(":"))
    if form is MOVIELENS_1M:
        title = st.builds("{} ({})".format, title.filter(lambda text: text[0].strip()), st.integers(1000, 9999))
    genres = st.lists(st.sampled_from(GENRES), min_size=1, max_size=6, unique=True).map(
        lambda own: "|".join(sorted(own))
    )
    return st.tuples(title, genres)


@st.composite
def tables(draw: st.DrawFn, form: Format) -> Tables:
    """The tables of a data set, as rows."""
    users = draw(st.lists(IDS, min_size=1, max_size=5, unique=True))
    movies = draw(st.lists(IDS, min_size=1, max_size=5, unique=True))
    pairs = st.tuples(st.sampled_from(users), st.sampled_from(movies))
    rated = draw(st.lists(pairs, min_size=1, max_size=12, unique=True))
    whole = form in (MOVIELENS_1M, MOVIELENS_100K)
    stars = st.integers(1, 5) if whole else st.integers(1, 10).map(lambda half: half / 2)
    ratings = [(*pair, draw(stars), draw(st.integers(0, 10**9))) for pair in rated]
    found: dict[str, Rows] = {"movies": [(movie, *draw(movies_of(form))) for movie in movies], "ratings": ratings}
    if "users" in form.files:
        ages, work = st.sampled_from([*schema.AGE_GROUPS]), st.integers(0, 20)
        if form is MOVIELENS_100K:
            ages, work = st.integers(1, 150), words()  # type: ignore[assignment]
        zips = words().filter(lambda text: ":" not in text)
        profile = st.tuples(st.sampled_from("FM"), ages, work, zips)
        found["users"] = [(user, *draw(profile)) for user in users]
    return found


def as_lines(rows: Rows, separator: str) -> str:
    return "".join(f"{separator.join(map(str, row))}\n" for row in rows)


def as_csv(header: str, rows: Rows) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header.split(","), *rows])
    return text.getvalue()


def flagged(movies: Rows) -> Rows:
    """Lines of u.item."""
    found = []
    for movie, title, genres in movies:
        own = genres.split("|")
        found.append((movie, title, "", "", "", *(int(flag in own) for flag in FLAGS)))
    return found


WRITERS: Mapping[str, Callable[[Tables], dict[str, str]]] = {
    MOVIELENS_1M.name: lambda found: {f"{kind}.dat": as_lines(rows, "::") for kind, rows in found.items()},
    MOVIELENS_10M.name: lambda found: {f"{kind}.dat": as_lines(rows, "::") for kind, rows in found.items()},
    MOVIELENS_CSV.name: lambda found: {
        "movies.csv": as_csv("movieId,title,genres", found["movies"]),
        "ratings.csv": as_csv("userId,movieId,rating,timestamp", found["ratings"]),
    },
    MOVIELENS_100K.name: lambda found: {
        "u.user": as_lines([(user, age, *others[:1], *others[1:]) for user, *others, age in ordered(found)], "|"),
        "u.item": as_lines(flagged(found["movies"]), "|"),
        "u.data": as_lines(found["ratings"], "\t"),
    },
}


def ordered(found: Tables) -> Rows:
    """Users of MovieLens-100K as user, gender, occupation, zip and age."""
    return [(user, gender, work, zip_code, age) for user, gender, age, work, zip_code in found["users"]]


def rows(frame: pd.DataFrame) -> Rows:
    return list(frame.itertuples(index=False, name=None))


def check_round_trip(form: Format, found: Tables) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in WRITERS[form.name](found).items():
            (Path(folder) / name).write_bytes(text.encode())
        assert recognized(Path(folder)) is form
        read = form.read(Path(folder))
    assert rows(read.movies) == found["movies"]
    assert rows(read.ratings) == found["ratings"]
    assert rows(read.users) == found.get("users", sorted({(user,) for user, *_ in found["ratings"]}))


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_what_is_written_is_read_back(form: Format) -> None:
    settings(max_examples=FEW, deadline=None)(given(tables(form))(lambda found: check_round_trip(form, found)))()


def read_or_refusal(form: Format, folder: Path) -> tuple[RawTables | None, str]:
    """The tables, or the error message; any other exception is a bug."""
    try:
        return form.read(folder), ""
    except DataError as error:
        return None, str(error)


def check_changed_byte(release: str, name: str, data: bytes, at: int, byte: int) -> None:
    form, _ = FILES[release]
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), release)
        path = Path(folder) / name
        path.write_bytes(data[:at] + bytes([byte]) + data[at + 1 :])
        read, problem = read_or_refusal(form, Path(folder))
    if read is None:
        assert REFUSED.fullmatch(problem), problem
        assert folder in problem
        return
    assert not any(table.isna().to_numpy().any() for table in vars(read).values())
    assert read.users["user_id"].is_unique
    assert read.movies["movie_id"].is_unique
    assert not read.ratings.duplicated(["user_id", "movie_id"]).any()
    assert read.ratings["user_id"].isin(read.users["user_id"]).all()
    assert read.ratings["movie_id"].isin(read.movies["movie_id"]).all()
    assert read.ratings["rating"].between(0.5, 5).all()


def changed_bytes(release: str, name: str, tmp_path: Path, examples: int) -> None:
    data = (write(tmp_path, release) / name).read_bytes()
    places = st.integers(0, len(data) - 1)
    check = given(places, st.integers(0, 255))(lambda at, byte: check_changed_byte(release, name, data, at, byte))
    settings(max_examples=examples, deadline=None)(check)()


CHANGED = [(release, name) for release, (form, _) in FILES.items() for name in form.names]


@pytest.mark.parametrize(("release", "name"), CHANGED, ids=lambda each: each)
def test_a_changed_byte_is_read_sanely_or_refused(release: str, name: str, tmp_path: Path) -> None:
    changed_bytes(release, name, tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.parametrize(("release", "name"), CHANGED, ids=lambda each: each)
def test_many_changed_bytes_are_read_sanely_or_refused(release: str, name: str, tmp_path: Path) -> None:
    changed_bytes(release, name, tmp_path, MANY)
