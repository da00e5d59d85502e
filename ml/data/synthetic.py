"""Generate synthetic data in MovieLens-1M's format, for tests, demos and machines without the real files.

Only the format, the category names and the rough shape of the distributions come from MovieLens. Ratings follow
simulated tastes, so a model that learns them is measurably better than one that does not.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ml.data.synthetic_ratings import Ints, activity, choose_and_score, make_tastes, timestamps
from ml.data.titles import invented_titles
from ml.files import write_atomically
from ml.schema import AGE_GROUPS, FIELD_NAMES, GENDERS

LAST_MOVIE_YEAR = 2000
ZIP_LOW, ZIP_HIGH = 501, 99_950

RATING_SHARES = (0.056, 0.108, 0.261, 0.349, 0.226)  # of 1 to 5 stars
AGE_WEIGHTS = (4, 18, 35, 20, 9, 8, 6)
OCCUPATION_WEIGHTS = (12, 9, 4, 3, 12, 2, 4, 11, 1, 2, 3, 2, 6, 2, 5, 2, 4, 8, 1, 1, 5)
GENRE_WEIGHTS = {
    "Action": 50, "Adventure": 28, "Animation": 10, "Children's": 25, "Comedy": 120, "Crime": 21, "Documentary": 12,
    "Drama": 160, "Fantasy": 7, "Film-Noir": 5, "Horror": 34, "Musical": 11, "Mystery": 11, "Romance": 47,
    "Sci-Fi": 28, "Thriller": 49, "War": 14, "Western": 7,
}  # fmt: skip
GENRE_COUNT_SHARES = (0.52, 0.34, 0.11, 0.03)  # of movies with 1 to 4 genres


@dataclass(frozen=True)
class SyntheticSize:
    """How much to generate; every number is exact.

    The cardinalities from ``movie_decades`` to ``zips`` count distinct values in the interactions, that is, over all
    users and the rated movies. Ratings always span 35 calendar months, hence 4 years, 12 months and 1 decade.

    Attributes:
        users: number of users, with ids 1 to ``users``.
        movies: rows of movies.dat.
        rated_movies: number of movies with at least one rating.
        ratings: rows of ratings.dat.
        max_movie_id: the largest movie id; ids have ``max_movie_id - movies`` gaps.
        max_per_user: largest number of ratings per user (the smallest is 20).
        movie_decades: number of release decades; the last one is the 2000s.
        movie_years: number of release years; the last one is 2000.
        genre1: number of first genres.
        genre2: number of second genres, including "no".
        genre3: number of third genres, including "no".
        ages: number of age groups, youngest first.
        occupations: number of occupation ids, from 0.
        zips: number of postal codes.
    """

    users: int
    movies: int
    rated_movies: int
    ratings: int
    max_movie_id: int
    max_per_user: int
    movie_decades: int
    movie_years: int
    genre1: int
    genre2: int
    genre3: int
    ages: int
    occupations: int
    zips: int

    @property
    def field_dims(self) -> dict[str, int]:
        """Return the number of distinct values of each feature in the interactions, in the order of ``FIELDS``."""
        movie = (self.rated_movies, self.movie_decades, self.movie_years)
        genres, user = (self.genre1, self.genre2, self.genre3), (len(GENDERS), self.ages, self.occupations, self.zips)
        return dict(zip(FIELD_NAMES, (self.users, *movie, 4, 12, 1, *genres, *user), strict=True))


FULL = SyntheticSize(
    users=6040, movies=3883, rated_movies=3706, ratings=1_000_209, max_movie_id=3952, max_per_user=2314,
    movie_decades=10, movie_years=81, genre1=18, genre2=18, genre3=16, ages=7, occupations=21, zips=3439,
)  # fmt: skip
SMALL = SyntheticSize(
    users=300, movies=220, rated_movies=200, ratings=15_000, max_movie_id=228, max_per_user=150,
    movie_decades=5, movie_years=30, genre1=10, genre2=9, genre3=7, ages=6, occupations=15, zips=180,
)  # fmt: skip
SIZES = {"synthetic": FULL, "synthetic-small": SMALL}


@dataclass(frozen=True)
class _Users:
    """Columns of users.dat, each [users]; gender and age are indices to ``GENDERS`` and ``AGE_GROUPS``."""

    gender: Ints
    age: Ints
    occupation: Ints
    zip_code: list[str]


@dataclass(frozen=True)
class _Movies:
    """Columns of movies.dat, each [movies], and the positions of the rated ones, [rated_movies]."""

    movie_id: Ints
    title: list[str]
    genres: list[tuple[str, ...]]
    rated: Ints


def write_synthetic(directory: Path, size: SyntheticSize, seed: int) -> None:
    """Write users.dat, movies.dat and ratings.dat in MovieLens-1M's format: Latin-1, ``::``, no header.

    The same size and seed produce the same bytes on the same kind of machine and numpy version; elsewhere, the last
    bits of float arithmetic may differ. Existing files are replaced atomically.

    Args:
        directory: where to write; created if missing.
        size: what to generate, e.g. ``SIZES["synthetic-small"]``.
        seed: any non-negative integer.
    """
    for_users, for_movies, for_tastes, for_ratings, for_times = np.random.default_rng(seed).spawn(5)
    users = _make_users(for_users, size)
    movies = _make_movies(for_movies, size)
    genres = [movies.genres[position] for position in movies.rated]
    tastes = make_tastes(for_tastes, users.gender, users.age, genres, list(GENRE_WEIGHTS))
    counts = activity(for_ratings, size.users, size.ratings, size.max_per_user)
    chosen, scores = choose_and_score(for_ratings, tastes, counts)
    rater = np.repeat(np.arange(size.users), counts)
    times = timestamps(for_times, rater, counts)
    stars = 1 + np.searchsorted(np.quantile(scores, np.cumsum(RATING_SHARES)[:-1]), scores)

    ages = list(AGE_GROUPS)
    directory.mkdir(parents=True, exist_ok=True)
    profiles = zip(users.gender.tolist(), users.age.tolist(), users.occupation.tolist(), users.zip_code, strict=True)
    people = (f"{i}::{GENDERS[g]}::{ages[a]}::{o}::{z}\n" for i, (g, a, o, z) in enumerate(profiles, 1))
    _write_lines(directory / "users.dat", people)
    titled = zip(movies.movie_id.tolist(), movies.title, movies.genres, strict=True)
    _write_lines(directory / "movies.dat", (f"{i}::{title}::{'|'.join(own)}\n" for i, title, own in titled))
    rows = (rater + 1, movies.movie_id[movies.rated][chosen], stars, times)
    _write_lines(
        directory / "ratings.dat", map("%d::%d::%d::%d\n".__mod__, zip(*(c.tolist() for c in rows), strict=True))
    )


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    """Replace a Latin-1 file as a whole."""
    write_atomically(path, "".join(lines).encode("latin-1"))


def _cover(rng: np.random.Generator, count: int, weights: Iterable[float]) -> Ints:
    """Sample ``count`` category indices by weight, in random order; every category occurs. Returns [count]."""
    shares = np.fromiter(weights, dtype=np.float64)
    extra = rng.choice(len(shares), count - len(shares), p=shares / shares.sum())
    return rng.permutation(np.concatenate([np.arange(len(shares)), extra]))


def _make_users(rng: np.random.Generator, size: SyntheticSize) -> _Users:
    """Sample independent user attributes; postal codes span the whole range, so some start with zero."""
    n = size.users
    codes = [f"{ZIP_LOW + number:05}" for number in rng.choice(ZIP_HIGH - ZIP_LOW, size.zips, replace=False)]
    for i in rng.choice(size.zips, -(-size.zips // 60), replace=False):
        codes[i] += f"-{rng.integers(1, 10_000):04}"  # a few users have the longer form
    return _Users(
        gender=_cover(rng, n, (28, 72)),
        age=_cover(rng, n, AGE_WEIGHTS[: size.ages]),
        occupation=_cover(rng, n, OCCUPATION_WEIGHTS[: size.occupations]),
        zip_code=[codes[i] for i in _cover(rng, n, rng.lognormal(sigma=1.2, size=size.zips))],
    )


def _make_movies(rng: np.random.Generator, size: SyntheticSize) -> _Movies:
    """Sample ids, titles, years and genres; the rated movies alone cover all years and genres."""
    gaps = 1 + rng.choice(size.max_movie_id - 1, size.max_movie_id - size.movies, replace=False)
    rated = np.sort(rng.choice(size.movies, size.rated_movies, replace=False))
    choices = _movie_years(size)
    weights = np.exp((choices - LAST_MOVIE_YEAR) / 9) + 0.03  # most movies are recent, with a long tail of old ones
    years = choices[rng.choice(len(choices), size.movies, p=weights / weights.sum())]
    years[rated] = choices[_cover(rng, size.rated_movies, weights)]
    genres = _genre_lists(rng, size)
    lists = [genres[i] for i in rng.permutation(size.movies)]
    for position, i in zip(rated, rng.permutation(size.rated_movies), strict=True):
        lists[position] = genres[i]  # the lists that cover all genres come first in ``genres``
    return _Movies(np.setdiff1d(np.arange(1, size.max_movie_id + 1), gaps), invented_titles(rng, years), lists, rated)


def _movie_years(size: SyntheticSize) -> Ints:
    """Return the release years, ascending: the newest of each decade and the newest of the rest. [movie_years]."""
    newest = [LAST_MOVIE_YEAR, *(LAST_MOVIE_YEAR - 1 - 10 * k for k in range(size.movie_decades - 1))]
    others = [year for year in range(LAST_MOVIE_YEAR, newest[-1] - 10, -1) if year not in newest]
    return np.sort(np.array(newest + others[: size.movie_years - len(newest)], dtype=np.int64))


def _genre_lists(rng: np.random.Generator, size: SyntheticSize) -> list[tuple[str, ...]]:
    """Return alphabetical genre lists of all movies; the first ones cover the cardinality of each position."""
    by_weight = sorted(GENRE_WEIGHTS, key=lambda genre: (-GENRE_WEIGHTS[genre], genre))
    names = sorted(by_weight[: size.genre1])
    rest = [genre for genre in by_weight if genre in names[2:]]
    second = [names[1], *rest[: size.genre2 - 2]]
    third = rest[: size.genre3 - 1]
    allowed = (set(names), set(second), set(third), set(names))
    lists: list[tuple[str, ...]] = [(name,) for name in names]
    lists += [(names[0], name) for name in second]
    lists += [(names[0], names[1], name) for name in third]

    drawn = size.movies - len(lists)
    lengths = rng.choice(len(GENRE_COUNT_SHARES), drawn, p=GENRE_COUNT_SHARES) + 1
    weights = np.array([GENRE_WEIGHTS[name] for name in names])
    order = np.argsort(rng.standard_exponential((drawn, len(names))) / weights, axis=1)
    for length, indices in zip(lengths, order, strict=True):
        genres = [names[i] for i in sorted(indices[:length])]
        # End the list before a genre that the cardinalities do not allow in its position.
        end = next((i for i, genre in enumerate(genres) if genre not in allowed[i]), length)
        lists.append(tuple(genres[:end]))
    return lists
