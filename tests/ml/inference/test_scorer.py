from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from ml.errors import DataError, NotFoundError
from ml.inference.recommend import Recommender
from ml.inference.scorer import Scorer
from ml.models.autoint import Inputs, build_model
from ml.models.bundle import ModelBundle
from ml.models.config import AutoIntConfig
from tests.feature_maps import encode_interactions
from tests.ml.models.reference import randomize

FIELDS = (
    "user_id", "movie_id", "movie_decade", "movie_year", "rating_year", "rating_month", "rating_decade",
    "genre1", "genre2", "genre3", "gender", "age", "occupation", "zip",
)  # fmt: skip
OWN = {
    "user_id": ("gender", "age", "occupation", "zip"),
    "movie_id": ("movie_decade", "movie_year", "genre1", "genre2", "genre3"),
}
TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


class Reference:
    """Scores by encoding one row after another with plain Python."""

    def __init__(self, bundle: ModelBundle, interactions: pd.DataFrame) -> None:
        self.network = bundle.network
        sides = {key: [name for name in FIELDS if name in (key, *own)] for key, own in OWN.items()}
        self.users, self.movies = (
            {row[key]: row for row in interactions[own].drop_duplicates().to_dict("records")}
            for key, own in sides.items()
        )
        self.codes = {
            field: {value: code for code, value in enumerate(sorted(set(interactions[field])))} for field in FIELDS
        }

    def row(self, user_id: int, movie_id: int, year: int, month: int) -> dict[str, Any]:
        moment = {"rating_year": year, "rating_month": month, "rating_decade": f"{year // 10}0s"}
        return {**self.users[user_id], **self.movies[movie_id], **moment}

    def scores(self, rows: Iterable[dict[str, Any]], timestamps: Iterable[int] | None = None) -> np.ndarray:
        codes = np.array([[self.codes[field][row[field]] for field in FIELDS] for row in rows], dtype=np.int32)
        if timestamps is None:
            return np.asarray(self.network(codes))[:, 0]
        numbers = np.array([[timestamp] for timestamp in timestamps], dtype=np.float32)
        return np.asarray(self.network([codes, numbers]))[:, 0]

    def pair_scores(self, pairs: Iterable[tuple[int, int, int, int]]) -> np.ndarray:
        return self.scores(self.row(*pair) for pair in pairs)


@pytest.fixture(scope="module")
def scorer(bundle: ModelBundle) -> Scorer:
    return Scorer(bundle)


@pytest.fixture(scope="module")
def reference(bundle: ModelBundle, small_interactions: pd.DataFrame) -> Reference:
    return Reference(bundle, small_interactions)


@pytest.fixture(scope="module")
def pairs(bundle: ModelBundle) -> pd.DataFrame:
    """Pairs in no order, some users and movies again, with the index of a filtered table."""
    generator = np.random.default_rng(5)
    return pd.DataFrame(
        {
            "user_id": generator.choice(bundle.users["user_id"], 40),
            "movie_id": generator.choice(bundle.movies["movie_id"], 40),
            "year": generator.integers(2000, 2004, 40),
            "month": generator.integers(1, 13, 40),
        },
        index=generator.integers(0, 30, 40),
    )


def pair(**changes: int) -> pd.DataFrame:
    return pd.DataFrame([{"user_id": 1, "movie_id": 1, "year": 2001, "month": 5, **changes}])


def test_pairs(scorer: Scorer, reference: Reference, pairs: pd.DataFrame) -> None:
    scores = scorer.score_pairs(pairs)
    assert (scores.shape, scores.dtype) == ((40,), np.float32)
    assert np.ptp(scores) > 0.1
    np.testing.assert_allclose(scores, reference.pair_scores(pairs.itertuples(index=False)), **TOLERANCE)
    np.testing.assert_array_equal(scorer.score_rows(pairs), scores)


def test_full_rows(scorer: Scorer, reference: Reference, small_interactions: pd.DataFrame) -> None:
    rows = small_interactions.sample(40, random_state=1)
    expected = reference.scores(rows.to_dict("records"))
    np.testing.assert_allclose(scorer.score_rows(rows[list(reversed(FIELDS))]), expected, **TOLERANCE)


def test_encoded_rows(scorer: Scorer, reference: Reference, small_interactions: pd.DataFrame) -> None:
    rows = small_interactions.sample(40, random_state=3)
    encoded = encode_interactions(rows, scorer.bundle.feature_map).iloc[:, ::-1]
    np.testing.assert_allclose(scorer.score_encoded(encoded), reference.scores(rows.to_dict("records")), **TOLERANCE)


def test_full_rows_are_scored_by_their_own_values(
    scorer: Scorer, reference: Reference, small_interactions: pd.DataFrame
) -> None:
    rows = small_interactions.sample(40, random_state=2)
    moved = rows.assign(zip=rows["zip"].to_numpy()[::-1], occupation=rows["occupation"].iloc[0])
    scores = scorer.score_rows(moved)
    np.testing.assert_allclose(scores, reference.scores(moved.to_dict("records")), **TOLERANCE)
    assert np.abs(scores - scorer.score_rows(rows)).max() > 1e-3


def test_catalogue(scorer: Scorer, reference: Reference, bundle: ModelBundle) -> None:
    positions = np.array([17, 0, 299])
    scores = expit(scorer.catalogue(2002, 11).rows(positions))
    user_ids = bundle.users["user_id"].iloc[positions]
    expected = [[(user, movie, 2002, 11) for movie in bundle.movies["movie_id"]] for user in user_ids]
    assert (scores.shape, scores.dtype) == ((3, len(bundle.movies)), np.float32)
    for row, row_pairs in zip(scores, expected, strict=True):
        np.testing.assert_allclose(row, reference.pair_scores(row_pairs), **TOLERANCE)


def test_movies_stand_by_id(scorer: Scorer, bundle: ModelBundle, small_interactions: pd.DataFrame) -> None:
    assert scorer.movie_ids.tolist() == sorted(set(small_interactions["movie_id"]))
    assert scorer.user_ids.tolist() == sorted(set(small_interactions["user_id"]))
    assert scorer.indices("user_id", [int(scorer.user_ids[42])]).tolist() == [42]
    assert scorer.indices("movie_id", scorer.movie_ids[[5, 0]].tolist()).tolist() == [5, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"user_id": 9999}, "user_id 9999.*300 from 1 to 300"),
        ({"movie_id": -4}, "movie_id -4.*200 from 1 to 228"),
        ({"year": 1999}, "rating_year 1999.*2000, 2001, 2002, 2003"),
        ({"month": 13}, "rating_month 13.*1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12"),
    ],
)
def test_unknown_value_in_a_pair(scorer: Scorer, changes: dict[str, int], message: str) -> None:
    pairs = pd.concat([pair(), pair(**changes)], ignore_index=True)
    for score in (scorer.score_pairs, scorer.score_rows):
        with pytest.raises(NotFoundError, match=message):
            score(pairs)


def test_unrated_movie_is_unknown(scorer: Scorer, small_movies: pd.DataFrame) -> None:
    unrated = next(movie for movie in small_movies["movie_id"] if movie not in scorer.movie_ids)
    with pytest.raises(NotFoundError, match=f"movie_id {unrated}"):
        scorer.score_pairs(pair(movie_id=unrated))


@pytest.mark.parametrize(("year", "month", "message"), [(2004, 1, "rating_year 2004"), (2001, 0, "rating_month 0")])
def test_unknown_moment_of_the_catalogue(scorer: Scorer, year: int, month: int, message: str) -> None:
    with pytest.raises(NotFoundError, match=message):
        scorer.catalogue(year, month)


def test_unknown_user(scorer: Scorer) -> None:
    with pytest.raises(NotFoundError, match="user_id 301"):
        scorer.indices("user_id", [301])


def test_missing_columns(scorer: Scorer, small_interactions: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=r"columns movie_id, month are missing; expected user_id.*full row"):
        scorer.score_rows(pair().drop(columns=["movie_id", "month"]))
    with pytest.raises(DataError, match="year, month are missing"):
        scorer.score_rows(small_interactions[list(FIELDS)].drop(columns="zip"))


def test_unknown_value_in_a_full_row(scorer: Scorer, small_interactions: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="occupation 99"):
        scorer.score_rows(small_interactions.head(3).assign(occupation=99))


def test_no_rows(scorer: Scorer, small_interactions: pd.DataFrame) -> None:
    for rows in (pair(), small_interactions):
        scores = scorer.score_rows(rows.head(0))
        assert (scores.shape, scores.dtype) == ((0,), np.float32)


@pytest.fixture(scope="module")
def timed_bundle(bundle: ModelBundle, small_interactions: pd.DataFrame) -> ModelBundle:
    """Of a network that takes the timestamp beside the codes, so finely scaled that a day matters."""
    centre, scale = float(small_interactions["timestamp"].mean()), 5e6
    # Without the zip code, it has as many tokens as the other network: what is compiled for one serves both.
    inputs = Inputs(bundle.feature_map.field_dims, positions=range(13), centres=[centre], scales=[scale])
    network = build_model("autoint", inputs, AutoIntConfig(embed_dim=4, num_layers=1, head_dim=2), seed=1)
    randomize(network, scale=0.4)
    return ModelBundle.of(network, bundle.feature_map, bundle.users, bundle.movies, ("timestamp",))


@pytest.fixture(scope="module")
def timed(timed_bundle: ModelBundle) -> Scorer:
    return Scorer(timed_bundle)


@pytest.fixture(scope="module")
def timed_reference(timed_bundle: ModelBundle, small_interactions: pd.DataFrame) -> Reference:
    return Reference(timed_bundle, small_interactions)


Score = Callable[[Scorer, pd.DataFrame], np.ndarray]


def score_full_rows(scorer: Scorer, rows: pd.DataFrame) -> np.ndarray:
    """With the columns in another order."""
    return scorer.score_rows(rows[[*reversed(FIELDS), *({"timestamp"} & set(rows))]])


def score_encoded_rows(scorer: Scorer, rows: pd.DataFrame) -> np.ndarray:
    """The same rows by their codes."""
    codes = scorer.bundle.feature_map.transform(rows)
    return scorer.score_encoded(codes.join(rows[[*({"timestamp"} & set(rows))]]))


BY_ROWS = pytest.mark.parametrize("score", [score_full_rows, score_encoded_rows])


@BY_ROWS
def test_numbers_of_rows_are_their_columns(
    score: Score, timed: Scorer, timed_reference: Reference, small_interactions: pd.DataFrame
) -> None:
    rows = small_interactions.sample(40, random_state=4)
    scores = score(timed, rows)
    expected = timed_reference.scores(rows.to_dict("records"), rows["timestamp"])
    assert (scores.shape, scores.dtype) == ((40,), np.float32)
    assert np.ptp(scores) > 0.1
    np.testing.assert_allclose(scores, expected, **TOLERANCE)
    moved = rows.assign(timestamp=rows["timestamp"] + 30 * 24 * 3600)
    np.testing.assert_allclose(
        score(timed, moved), timed_reference.scores(rows.to_dict("records"), moved["timestamp"]), **TOLERANCE
    )
    assert np.abs(score(timed, moved) - scores).max() > 0.01


@BY_ROWS
def test_a_missing_number_is_named(score: Score, timed: Scorer, small_interactions: pd.DataFrame) -> None:
    rows = small_interactions.head(3).drop(columns="timestamp")
    with pytest.raises(DataError, match=r"^columns timestamp are missing; this model needs them beside its fields$"):
        score(timed, rows)


def start_of(day: int, hour: int = 0) -> Callable[[int, int], int]:
    """The timestamp of a day and hour, UTC, of any year and month."""
    return lambda year, month: int(datetime(year, month, day, hour, tzinfo=UTC).timestamp())


def test_a_pair_s_moment_is_the_middle_of_its_month(
    timed: Scorer, timed_reference: Reference, pairs: pd.DataFrame
) -> None:
    rows = [timed_reference.row(*each) for each in pairs.itertuples(index=False)]

    def expected(moment: Callable[[int, int], int]) -> np.ndarray:
        return timed_reference.scores(rows, [moment(*each) for each in zip(pairs["year"], pairs["month"], strict=True)])

    scores = timed.score_pairs(pairs)
    np.testing.assert_allclose(scores, expected(start_of(15)), **TOLERANCE)
    np.testing.assert_array_equal(timed.score_rows(pairs), scores)
    for other in (start_of(14), start_of(16), start_of(15, hour=12)):
        assert not np.allclose(scores, expected(other), **TOLERANCE)


def test_a_pair_s_own_timestamp_is_not_looked_at(timed: Scorer, pairs: pd.DataFrame) -> None:
    np.testing.assert_array_equal(timed.score_pairs(pairs.assign(timestamp=0)), timed.score_pairs(pairs))


@pytest.mark.parametrize(
    ("changes", "message"), [({"year": 1999}, "rating_year 1999"), ({"month": 13}, "rating_month 13")]
)
def test_unknown_moment_of_a_pair_with_numbers(timed: Scorer, changes: dict[str, int], message: str) -> None:
    with pytest.raises(NotFoundError, match=message):
        timed.score_pairs(pair(**changes))


def test_there_are_no_lists_by_a_network_with_numbers(timed: Scorer, small_interactions: pd.DataFrame) -> None:
    message = "this model takes timestamp and scores single rows only"
    with pytest.raises(DataError, match=message):
        timed.catalogue(2002, 11)
    recommender = Recommender(timed, small_interactions)
    with pytest.raises(DataError, match=message):
        recommender.recommend(5, 2002, 11)
    with pytest.raises(DataError, match=message):
        recommender.recommend_all([(2002, 11)])


def test_no_rows_with_numbers(timed: Scorer, small_interactions: pd.DataFrame) -> None:
    for rows in (pair(), small_interactions):
        scores = timed.score_rows(rows.head(0))
        assert (scores.shape, scores.dtype) == ((0,), np.float32)
