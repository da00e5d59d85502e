"""Generate ratings of the shape of MovieLens-32M, or a part of it, as the CSV files of a MovieLens release.

They measure how the pipeline scales. What is taken from MovieLens-32M is how many ratings users and movies have: some
users have tens of thousands, and half of the movies fewer than five. Ratings follow simulated tastes. Users are made
in blocks, so that memory does not depend on the number of ratings.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from ml import schema
from ml.data.synthetic import GENRE_WEIGHTS
from ml.files import sync, temporary_path

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MIN_PER_USER = 20  # MovieLens-32M has no users with fewer ratings
FIRST, LAST = 789_652_009, 1_697_164_147  # 1995-01-09 and 2023-10-13, Unix seconds, UTC
STARS = np.arange(1, 11) / 2
# Shares of the ratings from 0.5 to 5 stars: whole stars are more frequent.
STAR_SHARES = (0.016, 0.03, 0.017, 0.066, 0.05, 0.196, 0.127, 0.266, 0.088, 0.144)
_SPREAD_OF_USERS, _SPREAD_OF_MOVIES = 1.25, 2.7  # standard deviations of the logarithms of the numbers of ratings
_FACTORS, _TASTE, _USER_BIAS, _MOVIE_BIAS, _NOISE = 10, 0.18, 0.4, 0.5, 0.75
_SESSION = 3600.0 * 24 * 40  # mean seconds from a user's first rating to another
_BLOCK = 2_000  # users
_NO_YEAR_SHARE, _NO_GENRE_SHARE = 0.01, 0.08  # of the movies
_PLAIN = pa.csv.WriteOptions(include_header=False, quoting_style="needed")
_WORDS = ("Copper", "Harbour", "Lantern", "Meridian", "Orchard", "Paper", "Quarry", "Saffron", "Tidal", "Velvet")


@dataclass(frozen=True)
class Shape:
    """How much to generate; every number is exact.

    Attributes:
        users: with ids from 1, each with at least ``MIN_PER_USER`` ratings.
        movies: rows of movies.csv; not every one has ratings.
        ratings: rows of ratings.csv.
    """

    users: int
    movies: int
    ratings: int


WHOLE = Shape(200_948, 87_585, 32_000_204)  # https://grouplens.org/datasets/movielens/32m/


def shape_of(ratings: int) -> Shape:
    """Return a shape with fewer ratings: as many per user as in the whole one, and more per movie."""
    share = ratings / WHOLE.ratings
    return Shape(round(WHOLE.users * share), round(WHOLE.movies * math.sqrt(share)), ratings)


SHAPES = {
    "synthetic-1m": shape_of(1_000_000),
    "synthetic-4m": shape_of(4_000_000),
    "synthetic-16m": shape_of(16_000_000),
    "synthetic-32m": WHOLE,
}


def write_shape(directory: Path, shape: Shape, seed: int) -> None:
    """Write movies.csv and ratings.csv, unless both are there; a file appears only once it is complete.

    Args:
        directory: where to write; created if missing.
        shape: how much.
        seed: any non-negative integer. The same one gives the same files.
    """
    movies, ratings = directory / "movies.csv", directory / "ratings.csv"
    if movies.exists() and ratings.exists():
        return
    directory.mkdir(parents=True, exist_ok=True)
    for_movies, for_users, for_ratings = np.random.default_rng(seed).spawn(3)
    _write(movies, iter([_movies(for_movies, shape.movies)]))
    _write(ratings, _ratings(for_users, for_ratings, shape))


def _write(path: Path, parts: Iterator[pa.Table]) -> None:
    """Write tables as one CSV file with a header, under a temporary name until it is complete."""
    temporary = temporary_path(path)
    try:
        with temporary.open("wb") as file:
            for number, part in enumerate(parts):
                if number == 0:
                    file.write(",".join(part.column_names).encode() + b"\n")
                pa.csv.write_csv(part, file, _PLAIN)
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _movies(rng: np.random.Generator, count: int) -> pa.Table:
    years = 2023 - np.minimum(rng.exponential(22, count).astype(int), 120)
    words = rng.integers(0, len(_WORDS), (count, 2))
    dated = rng.random(count) >= _NO_YEAR_SHARE
    titles = [
        f"{_WORDS[first]} {_WORDS[second]} {number}" + (f" ({year})" if has_year else "")
        for number, (first, second), year, has_year in zip(range(count), words, years, dated, strict=True)
    ]
    names = np.array(list(GENRE_WEIGHTS))
    order = np.argsort(rng.standard_exponential((count, len(names))) / np.array(list(GENRE_WEIGHTS.values())), axis=1)
    lengths = np.where(rng.random(count) < _NO_GENRE_SHARE, 0, 1 + rng.integers(0, 3, count))
    genres = [
        "|".join(sorted(names[own[:length]])) or schema.NO_GENRES for own, length in zip(order, lengths, strict=True)
    ]
    return pa.table({"movieId": np.arange(1, count + 1), "title": titles, "genres": genres})


def _counts(rng: np.random.Generator, shape: Shape) -> Ints:
    """Sample ratings per user: log-normal above the minimum, at most a third of the movies. Returns [users]."""
    spare = shape.ratings - MIN_PER_USER * shape.users
    most = max(shape.movies // 3 - MIN_PER_USER, -(-spare // shape.users))
    weights = np.exp(rng.normal(0, _SPREAD_OF_USERS, shape.users))
    extra = np.minimum((weights / weights.sum() * spare).astype(np.int64), most)
    while missing := spare - int(extra.sum()):
        free = np.flatnonzero(extra < most)
        extra[rng.permutation(free)[:missing]] += 1
    return MIN_PER_USER + extra


def _ratings(for_users: np.random.Generator, rng: np.random.Generator, shape: Shape) -> Iterator[pa.Table]:
    """Make the ratings of a block of users at a time, ordered by user and movie."""
    counts = _counts(for_users, shape)
    fame = np.exp(for_users.normal(0, _SPREAD_OF_MOVIES, shape.movies))
    chances = np.cumsum(fame / fame.sum())
    traits = for_users.normal(0, 1, (shape.movies, _FACTORS))
    quality = for_users.normal(0, _MOVIE_BIAS, shape.movies)
    spread = math.sqrt(_FACTORS * _TASTE**4 + _USER_BIAS**2 + _MOVIE_BIAS**2 + _NOISE**2)
    cuts = np.quantile(for_users.normal(0, spread, 1_000_000), np.cumsum(STAR_SHARES)[:-1])
    for start in range(0, shape.users, _BLOCK):
        own = counts[start : start + _BLOCK]
        user, movie = _pairs(rng, own, chances, fame)
        tastes = rng.normal(0, _TASTE**2, (len(own), _FACTORS))
        score = quality[movie] + rng.normal(0, _USER_BIAS, len(own))[user] + rng.normal(0, _NOISE, len(user))
        score += np.einsum("ij,ij->i", tastes[user], traits[movie])
        signed_up = rng.integers(FIRST, LAST, len(own))
        times = np.minimum(signed_up[user] + rng.exponential(_SESSION, len(user)).astype(np.int64), LAST)
        stars = STARS[np.searchsorted(cuts, score)]
        columns = {"userId": start + user + 1, "movieId": movie + 1, "rating": stars, "timestamp": times}
        yield pa.table(columns)


def _pairs(rng: np.random.Generator, counts: Ints, chances: Floats, fame: Floats) -> tuple[Ints, Ints]:
    """Sample the movies that a block's users have rated, without repetition, by fame.

    Returns:
        Positions of users in the block and of movies, [pairs], in order.
    """
    movies = len(fame)
    drawn = np.minimum(3 * counts + 20, 3 * movies)
    user = np.repeat(np.arange(len(counts)), drawn)
    movie = np.minimum(np.searchsorted(chances, rng.random(len(user)), side="right"), movies - 1)
    pairs = pd.unique(user * movies + movie)  # in the order of the draws, so that the first ones are a fair sample
    user, movie = np.divmod(pairs, movies)
    place = np.arange(len(user)) - np.searchsorted(user, np.arange(len(counts)))[user]
    kept = place < counts[user]
    user, movie = user[kept], movie[kept]
    found = [user * movies + movie]
    for each in np.flatnonzero(np.bincount(user, minlength=len(counts)) < counts):
        seen = movie[user == each]
        # The first arrivals of exponential clocks are a weighted sample without repetition.
        clocks = rng.standard_exponential(movies) / fame
        clocks[seen] = np.inf
        missing = int(counts[each]) - len(seen)
        found.append(each * movies + np.argpartition(clocks, missing - 1)[:missing])
    user, movie = np.divmod(np.sort(np.concatenate(found)), movies)
    return user, movie
