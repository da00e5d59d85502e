"""Simulate who rates which movie, when and how: users with tastes, and movies that are more or less known."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.schema import AGE_GROUPS, GENDERS

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

MIN_PER_USER = 20  # MovieLens-1M has no users with fewer ratings
START, END = 956_703_932, 1_046_454_590  # first and last rating: 2000-04-25 and 2003-02-28, Unix seconds, UTC
MONTHS: Ints = np.arange("2000-04", "2003-04", dtype="datetime64[M]").astype("datetime64[s]").astype(np.int64)
SIGN_UP_WEIGHTS = (2.5, 7.5, 6, 10, 20, 5.5, 4, 31, 10)  # by month, April to December 2000

# Standard deviations in units of the unobserved score; together they limit how well any model can do.
FACTOR_SPREADS = np.geomspace(0.24, 0.07, 10)
DEMOGRAPHIC_SPREAD, USER_SPREAD, MOVIE_SPREAD, FAME_EFFECT, NOISE = 0.12, 0.43, 0.58, 0.28, 0.8


@dataclass(frozen=True)
class Tastes:
    """Parameters of the ratings: score = ``user @ movie.T + user_bias + movie_bias + noise``.

    Shapes: ``user`` [users, d], ``movie`` [rated_movies, d], biases [users] and [rated_movies], and ``fame``, the
    relative probability of being rated, [rated_movies].
    """

    user: Floats
    movie: Floats
    user_bias: Floats
    movie_bias: Floats
    fame: Floats


def make_tastes(
    rng: np.random.Generator, gender: Ints, age: Ints, genres: Sequence[tuple[str, ...]], names: Sequence[str]
) -> Tastes:
    """Sample latent factors and biases, and add the genre tastes of gender and age groups.

    Args:
        rng: random generator.
        gender: index in ``GENDERS`` of each user, [users].
        age: index in ``AGE_GROUPS`` of each user, [users].
        genres: of each rated movie, [rated_movies].
        names: all genres.
    """
    n_users, n_movies, n_genres = len(gender), len(genres), len(names)
    column = {genre: i for i, genre in enumerate(names)}
    shares = np.zeros((n_movies, n_genres))
    for row, own_genres in enumerate(genres):
        shares[row, [column[genre] for genre in own_genres]] = len(own_genres) ** -0.5
    by_gender = rng.normal(0, DEMOGRAPHIC_SPREAD, (len(GENDERS), n_genres))
    by_age = rng.normal(0, DEMOGRAPHIC_SPREAD, (len(AGE_GROUPS), n_genres))
    own = rng.normal(0, 1, (n_users, len(FACTOR_SPREADS)))
    traits = rng.normal(0, FACTOR_SPREADS, (n_movies, len(FACTOR_SPREADS)))
    root = rng.normal(0, 1, n_movies)
    return Tastes(
        user=np.hstack([own, by_gender[gender] + by_age[age]]).astype(np.float32),
        movie=np.hstack([traits, shares]).astype(np.float32),
        user_bias=rng.normal(0, USER_SPREAD, n_users).astype(np.float32),
        movie_bias=(FAME_EFFECT * np.abs(root) + rng.normal(0, MOVIE_SPREAD, n_movies)).astype(np.float32),
        # Rating counts resemble a chi-squared distribution with one degree of freedom: a few hits, a long tail.
        # The second factor compensates for saturation of the hits, since no user rates a movie twice.
        fame=(root**2 * (1 + root**2 / 5) + 1e-3).astype(np.float32),
    )


def activity(rng: np.random.Generator, users: int, ratings: int, most: int) -> Ints:
    """Sample ratings per user: skewed, from 20 to ``most``, with the total ``ratings``. Returns [users]."""
    appetite = rng.gamma(0.57, size=users) + 0.004
    spare = most - MIN_PER_USER

    def at(scale: float) -> Ints:
        return MIN_PER_USER + np.minimum(appetite * scale, spare).astype(np.int64)

    low, high = 0.0, (spare + 1) / appetite.min()
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if at(middle).sum() <= ratings else (low, middle)
    counts = at(low)
    while missing := ratings - counts.sum():
        counts[rng.permutation(np.flatnonzero(counts < most))[:missing]] += 1
    return counts


def choose_and_score(rng: np.random.Generator, tastes: Tastes, counts: Ints, block: int = 256) -> tuple[Ints, Floats]:
    """Sample the movies that each user rates, without replacement, and the unobserved scores.

    Args:
        rng: random generator.
        tastes: factors, biases and fame.
        counts: ratings per user, [users].
        block: users per block; limits memory to a few arrays of [block, rated_movies].

    Returns:
        Positions among the rated movies and scores, grouped by user; each [ratings].
    """
    n_movies = len(tastes.fame)
    # Each movie gets one guaranteed rater, sampled so that no user exceeds their number of ratings.
    slots = rng.choice(counts.sum(), n_movies, replace=False)
    certain = np.searchsorted(np.cumsum(counts), slots, side="right")
    chosen, scores = [], []
    for start in range(0, len(counts), block):
        users = slice(start, start + block)
        taste = tastes.user[users] @ tastes.movie.T  # [block, rated_movies]
        # The first k arrivals of exponential clocks are a weighted sample without replacement; taste adds weight.
        arrival = rng.standard_exponential(taste.shape, dtype=np.float32) / (tastes.fame * np.exp(taste))
        inside = np.flatnonzero((certain >= start) & (certain < start + block))
        arrival[certain[inside] - start, inside] = -1
        for row, (count, bias) in enumerate(zip(counts[users], tastes.user_bias[users], strict=True)):
            movies = rng.permutation(np.argpartition(arrival[row], count - 1)[:count])
            chosen.append(movies)
            scores.append(taste[row, movies] + tastes.movie_bias[movies] + bias)
    noise = rng.normal(0, NOISE, counts.sum()).astype(np.float32)
    return np.concatenate(chosen), np.concatenate(scores) + noise


def timestamps(rng: np.random.Generator, rater: Ints, counts: Ints) -> Ints:
    """Sample Unix seconds of each rating, in sessions: one at sign-up in 2000, for some users up to three later ones.

    Args:
        rng: random generator.
        rater: position of the user of each rating, [ratings].
        counts: ratings per user, [users].
    """
    n_users = len(counts)
    shares = np.array(SIGN_UP_WEIGHTS) / sum(SIGN_UP_WEIGHTS)
    month = rng.choice(len(shares), n_users, p=shares)
    month[:2] = 0  # two users sign up in the first month, so every later month can get a rating
    opening = np.maximum(MONTHS[month], START)
    # As in MovieLens, the newest users have the lowest ids.
    sign_up = np.sort(opening + (rng.random(n_users) * (MONTHS[month + 1] - opening)).astype(np.int64))[::-1]

    visits = np.column_stack([np.zeros(n_users), rng.beta(0.5, 1.5, (n_users, 3))])  # as shares of the time left
    devotion = rng.beta(1, 1.2, n_users) * (rng.random(n_users) < 0.35)  # share of ratings in later sessions
    later = (rng.random(len(rater)) < devotion[rater]) * rng.integers(1, 4, len(rater))
    pages = (rng.random(len(rater)) * (counts[rater] // 4 + 1)).astype(
        np.int64
    )  # the ratings of a page are sent together
    seconds_per_page = rng.integers(25, 120, n_users)
    times: Ints = sign_up[rater] + (visits[rater, later] * (END - sign_up[rater])).astype(np.int64)
    times = np.minimum(times + pages * seconds_per_page[rater], END)
    _fill_months(rng, times, sign_up[rater])
    times[times.argmin()], times[times.argmax()] = START, END
    return times


def _fill_months(rng: np.random.Generator, times: Ints, sign_up: Ints) -> None:
    """Move ratings, in place, from months with several to months with none. Both arrays are [ratings]."""
    edges = np.clip(MONTHS, START, END)
    months = np.searchsorted(edges[1:-1], times, side="right")
    sizes = np.bincount(months, minlength=len(edges) - 1)
    for month in np.flatnonzero(sizes == 0):
        row = rng.choice(np.flatnonzero((sign_up < edges[month + 1]) & (sizes[months] > 1)))
        times[row] = rng.integers(max(edges[month], sign_up[row]), edges[month + 1])
        sizes[[months[row], month]] += (-1, 1)
        months[row] = month
