"""The formats of the MovieLens releases, on small hand-made files."""

from pathlib import Path

import pandas as pd
import pytest

from ml.data.movielens import MOVIELENS_1M, MOVIELENS_10M, MOVIELENS_100K, MOVIELENS_CSV, Format, recognized
from ml.data.movielens_tables import preprocess_movies, split_title
from ml.errors import DataError

FLAGS = dict.fromkeys(range(19), "0")


def item(number: int, title: str, *genres: int) -> str:
    """A line of u.item."""
    flags = "|".join("1" if at in genres else "0" for at in range(19))
    return f"{number}|{title}|01-Jan-1995||http://us.imdb.com/M/title-exact?x|{flags}"


FILES: dict[str, tuple[Format, dict[str, list[str]]]] = {
    "1M": (
        MOVIELENS_1M,
        {
            "users.dat": ["1::F::1::10::48067", "2::M::56::16::70072"],
            "movies.dat": ["1::Brass Lantern (1995)::Comedy|Drama", "3::Forêt, La (1931)::War"],
            "ratings.dat": ["1::3::5::978300760", "2::1::1::978302109"],
        },
    ),
    "10M": (
        MOVIELENS_10M,
        {
            "movies.dat": ["1::Brass Lantern (1995)::Comedy|IMAX", "3::Quiet Harbour (1931)::(no genres listed)"],
            "ratings.dat": ["7::3::3.5::1136418616", "1::1::5::838985046", "1::3::0.5::838985046"],
        },
    ),
    "100K": (
        MOVIELENS_100K,
        {
            "u.user": ["1|24|M|technician|85711", "2|53|F|other|T8H1N"],
            "u.item": [
                item(1, "Brass Lantern (1995)", 3, 4, 5),
                item(267, "unknown", 0),
                item(268, "Forêt, La (1931)"),
            ],
            "u.data": ["2\t1\t3\t881250949", "1\t267\t5\t891717742"],
        },
    ),
    "CSV": (
        MOVIELENS_CSV,
        {
            "movies.csv": [
                "movieId,title,genres",
                '1,"Lantern, The (1995)",Adventure|Animation|Children|Comedy|Fantasy|Musical|Mystery|Romance|War|IMAX',
                '2,"The ""Big"" Harbour (2007) ",Drama',
                "3,Babylon 5,(no genres listed)",
                "4,七人の侍 (1954),Action",
                "5,七人の侍 (1954),Action",
            ],
            "ratings.csv": ["userId,movieId,rating,timestamp", "9,3,4.5,964982703", "1,5,0.50,789652009"],
        },
    ),
}


def write(folder: Path, release: str, end: str = "\n", **changed: list[str]) -> Path:
    """Write a release's files; ``ratings=[...]`` replaces the lines of its file of ratings, and so on."""
    form, files = FILES[release]
    encoding = "latin-1" if release in ("1M", "100K") else "utf-8"
    for kind, file in form.files.items():
        lines = changed.get(kind, files[file.name])
        (folder / file.name).write_bytes("".join(f"{line}{end}" for line in lines).encode(encoding))
    return folder


def rows(frame: pd.DataFrame) -> list[tuple[object, ...]]:
    return list(frame.itertuples(index=False, name=None))


@pytest.mark.parametrize("release", FILES)
def test_a_directory_s_format_is_recognized_by_its_files(tmp_path: Path, release: str) -> None:
    assert recognized(write(tmp_path, release)) is FILES[release][0]


def test_movielens_10m_has_half_stars_and_no_users(tmp_path: Path) -> None:
    tables = MOVIELENS_10M.read(write(tmp_path, "10M"))
    assert rows(tables.users) == [(1,), (7,)]
    assert rows(tables.movies)[1] == (3, "Quiet Harbour (1931)", "(no genres listed)")
    assert rows(tables.ratings) == [(7, 3, 3.5, 1136418616), (1, 1, 5.0, 838985046), (1, 3, 0.5, 838985046)]
    assert tables.ratings["rating"].dtype == "float32"


def test_movielens_100k_has_genre_flags_ages_and_words(tmp_path: Path) -> None:
    tables = MOVIELENS_100K.read(write(tmp_path, "100K"))
    assert tables.users.to_dict("records") == [
        {"user_id": 1, "gender": "M", "age": 24, "occupation": "technician", "zip": "85711"},
        {"user_id": 2, "gender": "F", "age": 53, "occupation": "other", "zip": "T8H1N"},
    ]
    assert rows(tables.movies) == [
        (1, "Brass Lantern (1995)", "Animation|Children's|Comedy"),
        (267, "unknown", "unknown"),
        (268, "Forêt, La (1931)", "(no genres listed)"),
    ]
    assert rows(tables.ratings) == [(2, 1, 3, 881250949), (1, 267, 5, 891717742)]
    assert tables.ratings["rating"].dtype == "int8"


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_csv_files_are_quoted_utf_8(tmp_path: Path, end: str) -> None:
    tables = MOVIELENS_CSV.read(write(tmp_path, "CSV", end))
    assert rows(tables.users) == [(1,), (9,)]
    assert tables.movies["title"].tolist() == [
        "Lantern, The (1995)", 'The "Big" Harbour (2007) ', "Babylon 5", "七人の侍 (1954)", "七人の侍 (1954)",
    ]  # fmt: skip
    assert rows(tables.ratings) == [(9, 3, 4.5, 964982703), (1, 5, 0.5, 789652009)]


def test_titles_without_a_year_and_movies_without_genres(tmp_path: Path) -> None:
    movies = preprocess_movies(MOVIELENS_CSV.read(write(tmp_path, "CSV")).movies)
    assert movies["title"].tolist()[:3] == ["Lantern, The", 'The "Big" Harbour', "Babylon 5"]
    assert movies["movie_year"].tolist() == [1995, 2007, 0, 1954, 1954]
    assert movies["movie_decade"].tolist() == ["1990s", "2000s", "unknown", "1950s", "1950s"]
    assert rows(movies[["genres", "genre1", "genre2", "genre3"]])[1:3] == [
        ("Drama", "Drama", "no", "no"), ("", "no", "no", "no"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "title", "year"),
    [
        ("Heat (1995)", "Heat", 1995),
        ("Heat (1995) ", "Heat", 1995),
        ("Heat  (1995)", "Heat", 1995),
        ("Orbit (2000) (1999)", "Orbit (2000)", 1999),
        ("Series (2006-2007)", "Series", 2006),
        ("Series (1983–)", "Series", 1983),
        ("Series (2009– )", "Series", 2009),
        (" Heat (1995)", "Heat", 1995),
        ("Babylon 5", "Babylon 5", 0),
        (" Babylon 5 ", "Babylon 5", 0),
        ("(1995)", "(1995)", 0),
        ("Heat (95)", "Heat (95)", 0),
        ("2001 (a copy)", "2001 (a copy)", 0),
    ],
)
def test_year_of_a_title(text: str, title: str, year: int) -> None:
    titles, years = split_title(pd.Series([text]))
    assert (titles[0], years[0]) == (title, year)


HEADER = "userId,movieId,rating,timestamp"


@pytest.mark.parametrize(
    ("release", "kind", "lines", "message"),
    [
        ("CSV", "ratings", [HEADER, "1,3,4.0,1", "1,4,4.2,1"], "ratings.csv, line 3: found '4.2', expected a rating"),
        ("CSV", "ratings", [HEADER, "1,3,0.0,1"], "line 2: found '0.0', expected a rating from 0.5 to 5"),
        ("CSV", "ratings", [HEADER, "1,3,4.0,1", "1,3,4.0,2"], "line 3: found '1, 3', expected user_id and movie_id"),
        ("CSV", "ratings", [HEADER, "1,77,4.0,1"], "line 2: found '77', expected movie_id of a movie of movies.csv"),
        ("CSV", "ratings", [HEADER, "1,3,4.0,99999999999"], "line 2: found '99999999999', expected a timestamp"),
        ("CSV", "ratings", ["1,3,4.0,1"], f"line 1: found '1,3,4.0,1', expected the header '{HEADER}'"),
        ("CSV", "ratings", [HEADER], "ratings.csv: no rows; expected"),
        ("CSV", "movies", ["movieId,title,genres", "1,A,B,Drama"], "line 2: found '1,A,B,Drama', expected 3 fields"),
        ("CSV", "movies", ["movieId,title,genres", "3,A,War", '1,"A,War'], "line 3: found '1,\"A,War', expected"),
        ("CSV", "movies", ["movieId,title,genres", '1,A"B",Drama'], "line 2: found '1,A\"B\",Drama', expected fields"),
        ("CSV", "movies", ["movieId,title,genres", "1, ,Drama"], "line 2: found ' ', expected a title"),
        ("CSV", "movies", ["movieId,title,genres", "1,A,"], "line 2: found '', expected genres joined by"),
        ("CSV", "movies", ["movieId,title,genres", "1,A,War| "], "line 2: found 'War| ', expected genres joined by"),
        ("CSV", "movies", ["movieId,title,genres", "1,A\tB,War"], "line 2: found 'byte 0x09', expected Latin-1 or"),
        ("CSV", "ratings", [HEADER, "1,3,4.0,2001-01-01"], "found '2001-01-01', expected a timestamp in seconds"),
        ("10M", "ratings", ["7::3::4.7::1"], "ratings.dat, line 1: found '4.7', expected a rating from 0.5"),
        ("100K", "users", ["1|0|M|writer|1"], "u.user, line 1: found '0', expected age in years"),
        ("100K", "users", ["1|24|M||1"], "u.user, line 1: found '', expected an occupation"),
        ("100K", "movies", [item(1, "A").replace("0|0|0", "0|2|0", 1)], "u.item, line 1: found '2', expected 0 or 1"),
        ("100K", "movies", ["1|A|1995"], "u.item, line 1: found '1|A|1995', expected 24 fields separated by '|'"),
        ("100K", "ratings", ["1\t1\t3.5\t1"], "u.data, line 1: found '3.5', expected a rating from 1 to 5"),
        ("100K", "ratings", ["1 1 3 1"], "u.data, line 1: found '1 1 3 1', expected 4 fields separated by"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_named(tmp_path: Path, release: str, kind: str, lines: list[str], message: str) -> None:
    with pytest.raises(DataError) as caught:
        FILES[release][0].read(write(tmp_path, release, **{kind: lines}))
    assert message in str(caught.value)


def test_an_incomplete_directory_names_what_is_missing(tmp_path: Path) -> None:
    (write(tmp_path, "CSV") / "movies.csv").unlink()
    with pytest.raises(DataError, match=r"lacks movies\.csv; expected movies\.csv, ratings\.csv, as MovieLens CSV has"):
        recognized(tmp_path)


def test_a_directory_without_data_lists_all_formats(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        recognized(tmp_path)
    assert all(name in str(caught.value) for form, _ in FILES.values() for name in (*form.names, form.name))


def test_two_formats_in_a_directory_are_refused(tmp_path: Path) -> None:
    write(write(tmp_path, "CSV"), "1M")
    with pytest.raises(DataError, match="files of MovieLens-1M and MovieLens CSV; expected those of one format"):
        recognized(tmp_path)
