import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from ml.data.source import SYNTHETIC_SEED as SEED
from ml.data.synthetic import FULL, SIZES, SMALL, SyntheticSize, write_synthetic

NAMES = ("users.dat", "movies.dat", "ratings.dat")
GENRES = [
    "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama", "Fantasy", "Film-Noir",
    "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
]  # fmt: skip
USER = re.compile(r"(\d+)::([FM])::(1|18|25|35|45|50|56)::(1?\d|20)::(\d{5}(?:-\d{4})?)")
MOVIE = re.compile(r"(\d+)::(\S.*\S) \((\d{4})\)::([^:]+)")
RATING = re.compile(r"(\d+)::(\d+)::([1-5])::(\d+)")

# Edge cases of SyntheticSize: all users rate everything; as few ratings as possible; two users; few categories.
TINY = SyntheticSize(
    users=2, movies=22, rated_movies=20, ratings=40, max_movie_id=22, max_per_user=20,
    movie_decades=2, movie_years=2, genre1=3, genre2=2, genre3=2, ages=1, occupations=1, zips=1,
)  # fmt: skip
CORNERS = {
    "small": SMALL,
    "two-users": TINY,
    "two-users-half-each": replace(TINY, movies=40, rated_movies=40, max_movie_id=400, max_per_user=20),
    "dense": replace(SMALL, users=60, zips=50, ratings=60 * 200, max_per_user=200),
    "sparse": replace(SMALL, ratings=300 * 20),
    "own-zips": replace(SMALL, zips=300, occupations=21, ages=7),
    "years-fill-decades": replace(SMALL, movie_years=41),
    "all-genres": replace(SMALL, genre1=18, genre2=18, genre3=17),
    "all-movies-rated": replace(SMALL, movies=200, max_movie_id=200),
}


def parse(directory: Path, name: str, pattern: re.Pattern[str]) -> list[tuple[str, ...]]:
    text = (directory / name).read_bytes().decode("latin-1")
    assert text.endswith("\n")
    assert "\r" not in text
    matches = [pattern.fullmatch(line) for line in text[:-1].split("\n")]
    assert all(matches), f"{name}: line {matches.index(None) + 1} is not in the format"
    return [match.groups() for match in matches if match]


def counted(directory: Path) -> dict[str, int]:
    """Count the distinct values of the features in the interactions, in plain Python."""
    users = {row[0]: row[1:] for row in parse(directory, "users.dat", USER)}
    movies = {row[0]: row[1:] for row in parse(directory, "movies.dat", MOVIE)}
    seen: dict[str, set[object]] = {}
    for user, movie, _, time in parse(directory, "ratings.dat", RATING):
        gender, age, occupation, code = users[user]
        _, year, genres = movies[movie]
        first, second, third = [*genres.split("|"), "no", "no"][:3]
        moment = datetime.fromtimestamp(int(time), UTC)
        values = {
            "user_id": user, "movie_id": movie, "movie_decade": year[:3], "movie_year": year,
            "rating_year": moment.year, "rating_month": moment.month, "rating_decade": moment.year // 10,
            "genre1": first, "genre2": second, "genre3": third,
            "gender": gender, "age": age, "occupation": occupation, "zip": code,
        }  # fmt: skip
        for field, value in values.items():
            seen.setdefault(field, set()).add(value)
    return {field: len(values) for field, values in seen.items()}


def assert_declared_numbers(directory: Path, size: SyntheticSize) -> None:
    users, movies = parse(directory, "users.dat", USER), parse(directory, "movies.dat", MOVIE)
    ratings = parse(directory, "ratings.dat", RATING)
    assert [int(row[0]) for row in users] == list(range(1, size.users + 1))
    ids = [int(row[0]) for row in movies]
    assert ids == sorted(set(ids))
    assert (len(ids), ids[-1]) == (size.movies, size.max_movie_id)
    assert ids[0] >= 1
    assert len(ratings) == size.ratings
    raters = [int(row[0]) for row in ratings]
    assert raters == sorted(raters)
    assert set(raters) == set(range(1, size.users + 1))
    assert {int(row[1]) for row in ratings} <= set(ids)
    assert len({row[:2] for row in ratings}) == size.ratings
    per_user = Counter(raters).values()
    assert min(per_user) >= 20
    assert max(per_user) <= size.max_per_user
    times = [int(row[3]) for row in ratings]
    assert (min(times), max(times)) == (956703932, 1046454590)
    months = {datetime.fromtimestamp(time, UTC).strftime("%Y-%m") for time in times}
    expected = [f"{year}-{month:02}" for year in range(2000, 2004) for month in range(1, 13)]
    assert months == set(expected[3:38])
    assert counted(directory) == size.field_dims


def as_arrays(directory: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rows = np.array([row[:3] for row in parse(directory, "ratings.dat", RATING)], dtype=np.int64)
    return rows[:, 0] - 1, np.unique(rows[:, 1], return_inverse=True)[1], rows[:, 2]


def factorise(users: np.ndarray, movies: np.ndarray, values: np.ndarray, factors: int) -> tuple[np.ndarray, np.ndarray]:
    """Alternating least squares: return user and movie vectors whose products approximate the values."""
    rng = np.random.default_rng(5)
    left = rng.normal(0, 0.1, (users.max() + 1, factors))
    right = rng.normal(0, 0.1, (movies.max() + 1, factors))
    for _ in range(8):
        for own, other, ids, other_ids in ((left, right, users, movies), (right, left, movies, users)):
            order = np.argsort(ids, kind="stable")
            bounds = np.searchsorted(ids[order], np.arange(len(own) + 1))
            for i in range(len(own)):
                rows = order[bounds[i] : bounds[i + 1]]
                seen = other[other_ids[rows]]
                penalty = (8 + 0.02 * len(rows)) * np.eye(factors)
                own[i] = np.linalg.solve(seen.T @ seen + penalty, seen.T @ values[rows])
    return left, right


def held_out_aucs(users: np.ndarray, movies: np.ndarray, stars: np.ndarray) -> tuple[float, float, float]:
    """Return the AUC of "4 or more" on a random fifth: by movie means, by biases, and by biases and tastes."""
    test = np.random.default_rng(3).random(len(stars)) < 0.2
    u, m, y = users[~test], movies[~test], stars[~test] - stars[~test].mean()
    movie_bias = np.bincount(m, y, movies.max() + 1) / (np.bincount(m, minlength=movies.max() + 1) + 5)
    y = y - movie_bias[m]
    user_bias = np.bincount(u, y, users.max() + 1) / (np.bincount(u, minlength=users.max() + 1) + 5)
    left, right = factorise(u, m, y - user_bias[u], factors=10)
    u, m, liked = users[test], movies[test], stars[test] >= 4
    biases = movie_bias[m] + user_bias[u]
    shared = biases + (left[u] * right[m]).sum(axis=1)
    return tuple(float(roc_auc_score(liked, score)) for score in (movie_bias[m], biases, shared))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("small") / "made" / "on the way"
    write_synthetic(directory, SMALL, seed=7)
    return directory


def contents(directory: Path) -> list[bytes]:
    return [(directory / name).read_bytes() for name in NAMES]


def test_same_seed_produces_the_same_bytes_and_another_seed_does_not(small: Path, tmp_path: Path) -> None:
    write_synthetic(tmp_path / "same", SMALL, seed=7)
    write_synthetic(tmp_path / "other", SMALL, seed=8)
    assert contents(tmp_path / "same") == contents(small)
    assert all(a != b for a, b in zip(contents(tmp_path / "other"), contents(small), strict=True))


def test_global_random_state_is_neither_used_nor_changed(small: Path, tmp_path: Path) -> None:
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    write_synthetic(tmp_path, SMALL, seed=7)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002
    assert contents(tmp_path) == contents(small)


@pytest.mark.parametrize("size", CORNERS.values(), ids=CORNERS.keys())
def test_every_declared_number_is_exact(size: SyntheticSize, tmp_path: Path) -> None:
    write_synthetic(tmp_path, size, seed=0)
    assert_declared_numbers(tmp_path, size)


def test_named_sizes() -> None:
    assert SIZES == {"synthetic": FULL, "synthetic-small": SMALL}
    assert (FULL.users, FULL.movies, FULL.rated_movies, FULL.ratings) == (6040, 3883, 3706, 1_000_209)
    assert FULL.field_dims == {
        "user_id": 6040, "movie_id": 3706, "movie_decade": 10, "movie_year": 81, "rating_year": 4, "rating_month": 12,
        "rating_decade": 1, "genre1": 18, "genre2": 18, "genre3": 16, "gender": 2, "age": 7, "occupation": 21,
        "zip": 3439,
    }  # fmt: skip


def test_titles_are_unique_and_show_the_peculiarities_of_the_format(small: Path) -> None:
    titles = [f"{title} ({year})" for _, title, year, _ in parse(small, "movies.dat", MOVIE)]
    assert len({title.rsplit(" (", 1)[0] for title in titles}) == len(titles)
    assert any(re.search(r", (The|An?) \(\d{4}\)$", title) for title in titles)
    assert any(re.search(r"\([^()]+\) \(\d{4}\)$", title) for title in titles)
    with pytest.raises(UnicodeDecodeError):  # there are accents, in Latin-1
        (small / "movies.dat").read_text(encoding="utf-8")


def test_genres_are_known_distinct_and_alphabetical(small: Path) -> None:
    lists = [row[3].split("|") for row in parse(small, "movies.dat", MOVIE)]
    assert {genre for genres in lists for genre in genres} <= set(GENRES)
    assert all(genres == sorted(set(genres)) for genres in lists)
    assert {1, 2, 3} <= {len(genres) for genres in lists}


def test_zips_are_strings_with_leading_zeros_and_long_forms(small: Path) -> None:
    codes = {row[4] for row in parse(small, "users.dat", USER)}
    assert any(code.startswith("0") for code in codes)
    assert 1 <= sum(len(code) == 10 for code in codes) < len(codes) / 10


def test_ratings_and_popularity_have_the_usual_shape(small: Path) -> None:
    _, movies, stars = as_arrays(small)
    np.testing.assert_allclose(np.bincount(stars)[1:] / len(stars), [0.056, 0.108, 0.261, 0.349, 0.226], atol=0.005)
    popularity = np.sort(np.bincount(movies))[::-1]
    assert (
        popularity[:20].sum() > 3 * popularity[100:120].sum()
    )  # the top tenth compared with a tenth around the median
    years = [datetime.fromtimestamp(int(row[3]), UTC).year for row in parse(small, "ratings.dat", RATING)]
    assert 0.85 < years.count(2000) / len(years) < 0.96


def test_tastes_can_be_learned(small: Path) -> None:
    movie_means, biases, shared = held_out_aucs(*as_arrays(small))
    assert movie_means > 0.68
    assert biases > movie_means + 0.02
    assert shared > biases + 0.004


def test_existing_files_are_replaced_whole(small: Path, tmp_path: Path) -> None:
    for name in NAMES:
        (tmp_path / name).write_bytes(b"old\n" * 1_000_000)  # longer than the new content
    write_synthetic(tmp_path, SMALL, seed=7)
    assert contents(tmp_path) == contents(small)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)


def test_a_failed_write_keeps_the_old_file_and_removes_the_temporary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_synthetic(tmp_path, SMALL, seed=1)
    before = contents(tmp_path)

    def full_disk(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "rename", full_disk)
    with pytest.raises(OSError, match="disk full"):
        write_synthetic(tmp_path, SMALL, seed=2)
    assert contents(tmp_path) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(NAMES)


def test_as_many_zips_as_users(tmp_path: Path) -> None:
    # The full size: with so many zips, sampling with replacement would repeat some.
    size = replace(SMALL, users=6040, zips=6040, ratings=6040 * 20)
    write_synthetic(tmp_path, size, SEED)
    assert len({row[4] for row in parse(tmp_path, "users.dat", USER)}) == 6040


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, SEED])
def test_full_size(tmp_path: Path, seed: int) -> None:
    write_synthetic(tmp_path, FULL, seed)
    assert_declared_numbers(tmp_path, FULL)
    users, movies, stars = as_arrays(tmp_path)
    popularity = np.bincount(movies)
    assert popularity.max() > 2_500
    assert np.median(popularity) < popularity.mean() / 2

    movie_means, biases, shared = held_out_aucs(users, movies, stars)
    assert 0.71 < movie_means < 0.77
    assert 0.77 < biases < 0.81
    assert shared > biases + 0.02

    # Men and women differ on some genre: mean per user of ratings minus the user's and the movie's means.
    gender = np.array([row[1] == "F" for row in parse(tmp_path, "users.dat", USER)])
    genre_of = {row[0]: row[3].split("|")[0] for row in parse(tmp_path, "movies.dat", MOVIE)}
    genres = np.array([genre_of[row[1]] for row in parse(tmp_path, "ratings.dat", RATING)])
    residuals = stars - (np.bincount(movies, stars) / popularity)[movies]
    residuals -= (np.bincount(users, residuals) / np.bincount(users))[users]
    differences = []
    for genre in GENRES:
        inside = genres == genre
        count = np.bincount(users[inside], minlength=FULL.users)
        mean = np.bincount(users[inside], residuals[inside], FULL.users) / np.maximum(count, 1)
        women, men = mean[gender & (count >= 5)], mean[~gender & (count >= 5)]
        error = np.hypot(women.std() / len(women) ** 0.5, men.std() / len(men) ** 0.5)
        differences.append(abs(women.mean() - men.mean()) / error)
    assert max(differences) > 6
