from pathlib import Path

import pandas as pd
import pytest

from ml.data.formats import RawTables
from ml.data.movielens import MOVIELENS_CSV
from ml.data.source import Source
from ml.data.synthetic_shapes import MIN_PER_USER, SHAPES, WHOLE, Shape, shape_of, write_shape

SMALL = Shape(users=2500, movies=3000, ratings=150_000)  # more users than one block


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shape")
    write_shape(folder, SMALL, seed=1)
    return folder


@pytest.fixture(scope="module")
def raw(directory: Path) -> RawTables:
    return MOVIELENS_CSV.read(directory)  # which refuses repeated pairs, unknown movies and invalid values


def test_sizes_are_exact(raw: RawTables) -> None:
    assert (len(raw.users), len(raw.movies), len(raw.ratings)) == (SMALL.users, SMALL.movies, SMALL.ratings)
    assert raw.ratings["user_id"].value_counts().min() >= MIN_PER_USER


def test_ratings_are_skewed_as_in_movielens(raw: RawTables) -> None:
    of_users, of_movies = (raw.ratings[name].value_counts() for name in ("user_id", "movie_id"))
    assert of_users.max() > 10 * of_users.median()
    few = (of_movies.reindex(raw.movies["movie_id"], fill_value=0) < 5).mean()
    assert 0.3 < few < 0.7
    stars = raw.ratings["rating"].value_counts(normalize=True)
    assert sorted(stars.index) == [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]
    assert stars.loc[4] == pytest.approx(0.266, abs=0.02)


def test_ratings_follow_tastes(raw: RawTables) -> None:
    rows = raw.ratings
    means = rows.groupby("movie_id")["rating"].transform("mean")
    half = rows.index % 2 == 0
    left, right = ((rows["rating"] - means)[own].groupby(rows["user_id"][own]).mean() for own in (half, ~half))
    assert left.corr(right) > 0.5  # a user's generosity, from one half of the ratings and from the other


def test_the_same_seed_gives_the_same_files(directory: Path, tmp_path: Path) -> None:
    write_shape(tmp_path, SMALL, seed=1)
    for name in ("movies.csv", "ratings.csv"):
        assert (tmp_path / name).read_bytes() == (directory / name).read_bytes()


def test_complete_files_are_kept(tmp_path: Path) -> None:
    for name in ("movies.csv", "ratings.csv"):
        (tmp_path / name).write_text("kept")
    write_shape(tmp_path, SMALL, seed=1)
    assert (tmp_path / "ratings.csv").read_text() == "kept"


def test_some_movies_have_no_year_and_no_genres(raw: RawTables) -> None:
    assert not raw.movies["title"].str.contains(r"\([0-9]{4}\)$").all()
    assert (raw.movies["genres"] == "(no genres listed)").any()


def test_a_smaller_shape_has_as_many_ratings_per_user() -> None:
    shape = shape_of(WHOLE.ratings // 4)
    assert shape.ratings / shape.users == pytest.approx(WHOLE.ratings / WHOLE.users, rel=0.001)
    assert shape.movies == pytest.approx(WHOLE.movies / 2, abs=1)


@pytest.mark.parametrize("name", list(SHAPES))
def test_a_shape_is_a_source(name: str) -> None:
    source = Source(name)
    assert (source.dataset, source.format.name) == (name, "MovieLens CSV")
    size, shape = source.known_size, SHAPES[name]
    assert (size.users, size.movies, size.ratings) == (shape.users, shape.movies, shape.ratings)


def test_a_shape_is_generated_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "synthetic-1m", Shape(users=50, movies=300, ratings=2000))
    directory = Source("synthetic-1m").prepare(tmp_path)
    assert directory == tmp_path / "synthetic-1m"
    assert len(pd.read_csv(directory / "ratings.csv")) == 2000
