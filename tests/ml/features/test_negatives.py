import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from ml import schema
from ml.features.feature_map import FeatureMap
from ml.features.negatives import SOURCE, NegativesConfig, sample_negatives
from ml.features.splits import split_interactions
from tests.feature_maps import encode_interactions

MOVIE_FIELDS = ["movie_id", "movie_decade", "movie_year", "genre1", "genre2", "genre3"]
OF_THE_DRAWN_MOVIE = [*MOVIE_FIELDS, "label", "rating"]
PER_POSITIVE = 3


@pytest.fixture(scope="module")
def train(small_interactions: pd.DataFrame, small_feature_map: FeatureMap) -> pd.DataFrame:
    return split_interactions(encode_interactions(small_interactions, small_feature_map))[0]


@pytest.fixture(scope="module")
def movie_codes(small_movies: pd.DataFrame, small_feature_map: FeatureMap) -> pd.DataFrame:
    return small_feature_map.side("movie").transform(small_feature_map.known("movie_id", small_movies))


@pytest.fixture(scope="module")
def rows(train: pd.DataFrame, movie_codes: pd.DataFrame) -> pd.DataFrame:
    return sample_negatives(train, movie_codes, NegativesConfig(per_positive=PER_POSITIVE))


def pairs(rows: pd.DataFrame) -> set[tuple[int, int]]:
    return set(zip(rows["user_id"], rows["movie_id"], strict=True))


def drawn(rows: pd.DataFrame) -> np.ndarray:
    return np.arange(len(rows)) % (1 + PER_POSITIVE) != 0


def test_every_like_is_followed_by_its_draws(rows: pd.DataFrame, train: pd.DataFrame) -> None:
    likes = [position for position, label in enumerate(train["label"]) if label == 1]
    assert rows[SOURCE].tolist() == [like for like in likes for _ in range(1 + PER_POSITIVE)]
    first = rows[~drawn(rows)].drop(columns=SOURCE).reset_index(drop=True)
    pd.testing.assert_frame_equal(first, train.iloc[likes].reset_index(drop=True))
    assert rows.index.equals(pd.RangeIndex(len(rows)))


def test_a_draw_is_no_movie_that_its_user_has_rated(rows: pd.DataFrame, train: pd.DataFrame) -> None:
    disliked = pairs(train[train["label"] == 0])
    assert len(disliked) > 1000
    assert not pairs(rows[drawn(rows)]) & pairs(train)


def test_a_draw_has_the_likes_user_and_moment(rows: pd.DataFrame, train: pd.DataFrame) -> None:
    kept = [name for name in train.columns if name not in OF_THE_DRAWN_MOVIE]
    assert {"user_id", "zip", "gender", "rating_year", "rating_month", "timestamp", "row"} < set(kept)
    expected = train.iloc[rows[SOURCE]][kept].reset_index(drop=True)
    pd.testing.assert_frame_equal(rows[kept], expected)


def test_a_draw_has_its_movies_fields(rows: pd.DataFrame, movie_codes: pd.DataFrame) -> None:
    by_movie = {row["movie_id"]: row for row in movie_codes.to_dict("records")}
    found = rows.loc[drawn(rows), MOVIE_FIELDS].to_dict("records")
    assert found == [by_movie[row["movie_id"]] for row in found]
    assert movie_codes["movie_id"].tolist() == list(range(len(movie_codes)))


def test_a_draw_is_no_like(rows: pd.DataFrame) -> None:
    assert (rows.loc[drawn(rows), ["label", "rating"]] == 0).all(axis=None)
    assert rows["label"].mean() == 1 / (1 + PER_POSITIVE)


def test_types_are_those_of_the_training_rows(rows: pd.DataFrame, train: pd.DataFrame) -> None:
    assert list(rows.columns) == [*train.columns, SOURCE]
    assert rows.dtypes.drop(SOURCE).to_dict() == train.dtypes.to_dict()
    assert rows[SOURCE].dtype == np.int64


def test_every_unrated_movie_can_be_drawn(rows: pd.DataFrame, train: pd.DataFrame, movie_codes: pd.DataFrame) -> None:
    user = train.loc[train["label"] == 1, "user_id"].mode()[0]
    likes = train[(train["user_id"] == user) & (train["label"] == 1)]
    found = sample_negatives(likes, movie_codes, NegativesConfig(per_positive=50))
    assert pairs(found) == {(user, movie) for movie in range(len(movie_codes))}


def test_training_rows_stay_as_they_are(train: pd.DataFrame, movie_codes: pd.DataFrame) -> None:
    before = train.copy()
    sample_negatives(train, movie_codes, NegativesConfig(per_positive=1))
    pd.testing.assert_frame_equal(train, before)


def small_rows(ratings: list[tuple[int, int, int]], movies: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training rows of user, movie and rating, and the codes of that many movies."""
    train = pd.DataFrame(ratings, columns=["user_id", "movie_id", "rating"]).astype("int32")
    label = (train["rating"] >= schema.LIKED_RATING).astype("int8")
    codes = pd.DataFrame({"movie_id": np.arange(movies, dtype=np.int32)})
    return train.assign(rating=train["rating"].astype("int8"), label=label), codes


def test_users_that_rated_everything_are_left_out() -> None:
    everything = [(1, movie, 5) for movie in range(4)]
    train, codes = small_rows([(0, 0, 5), *everything, (2, 0, 4), (2, 1, 1), (2, 3, 4), (3, 1, 2)], movies=4)
    found = sample_negatives(train, codes, NegativesConfig(per_positive=2))
    assert found[SOURCE].tolist() == [0, 0, 0, 5, 5, 5, 7, 7, 7]
    assert found["user_id"].tolist() == [0, 0, 0, 2, 2, 2, 2, 2, 2]
    assert found["movie_id"].tolist()[3:] == [0, 2, 2, 3, 2, 2]  # all that user 2 has left is movie 2


def test_without_a_like_there_are_no_rows() -> None:
    train, codes = small_rows([(0, 0, 1), (1, 2, 3)], movies=3)
    found = sample_negatives(train, codes, NegativesConfig(per_positive=2))
    assert len(found) == 0
    assert list(found.columns) == [*train.columns, SOURCE]


def test_the_seed_decides(rows: pd.DataFrame, train: pd.DataFrame, movie_codes: pd.DataFrame) -> None:
    again, other = (
        sample_negatives(train, movie_codes, NegativesConfig(per_positive=PER_POSITIVE, seed=seed)) for seed in (0, 1)
    )
    pd.testing.assert_frame_equal(again, rows)
    pd.testing.assert_frame_equal(other[~drawn(rows)], rows[~drawn(rows)])
    assert (other["movie_id"] != rows["movie_id"])[drawn(rows)].mean() > 0.9


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_popularity_power_decides_how_often_a_movie_is_drawn(power: float) -> None:
    counts = [40, 1, 9, 0, 4, 16]  # rows of other users, who like nothing; movie 3 counts as if it had one
    others = [(1 + user, movie, 1) for movie, count in enumerate(counts) for user in range(count)]
    train, codes = small_rows([(0, 5, 5), *others], movies=6)
    draws = 40_000
    found = sample_negatives(train, codes, NegativesConfig(per_positive=draws, popularity_power=power))
    weights = np.array([40, 1, 9, 1, 4, 0]) ** power * [1, 1, 1, 1, 1, 0]  # movie 5 is the user's own
    expected = weights / weights.sum()
    frequencies = np.bincount(found["movie_id"][1:], minlength=6) / draws
    deviations = np.sqrt(expected * (1 - expected) / draws)
    assert (np.abs(frequencies - expected) <= 4 * deviations).all()


def test_popular_movies_are_drawn_more_often_by_a_power(train: pd.DataFrame, movie_codes: pd.DataFrame) -> None:
    ratings = train["movie_id"].value_counts()
    means = []
    for power in (0.0, 0.5, 1.0):
        config = NegativesConfig(per_positive=PER_POSITIVE, popularity_power=power)
        found = sample_negatives(train, movie_codes, config)
        means.append(found.loc[drawn(found), "movie_id"].map(ratings).mean())
    assert means[0] * 1.2 < means[1]
    assert means[1] * 1.2 < means[2]


@pytest.mark.parametrize(
    "settings", [{"per_positive": 0}, {"popularity_power": -0.1}, {"popularity_power": 1.1}, {"seed": -1}, {"share": 1}]
)
def test_bad_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match=next(iter(settings))):
        NegativesConfig(**{"per_positive": 1, **settings})  # type: ignore[arg-type]


def test_the_number_of_draws_must_be_given() -> None:
    with pytest.raises(ValidationError, match="per_positive"):
        NegativesConfig()  # type: ignore[call-arg]
