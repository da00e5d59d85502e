import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pandas as pd
import pytest

from ml import schema
from ml.data.formats import RawTables
from ml.data.movielens_tables import preprocess_movies, preprocess_users
from ml.features.tables import join_interactions, preprocess_ratings


def raw_users() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "user_id": pd.Series([1, 2], dtype="int32"),
            "gender": ["F", "M"],
            "age": pd.Series([1, 56], dtype="int32"),
            "occupation": pd.Series([0, 20], dtype="int32"),
            "zip": ["01234", "98765-4321"],
        }
    )


def raw_movies(titles: list[str], genres: list[str]) -> pd.DataFrame:
    ids = pd.Series(range(10, 10 + len(titles)), dtype="int32")
    return pd.DataFrame({"movie_id": ids, "title": titles, "genres": genres})


def raw_ratings(rows: list[tuple[int, int, int, int]]) -> pd.DataFrame:
    types = {"user_id": "int32", "movie_id": "int32", "rating": "int8", "timestamp": "int64"}
    return pd.DataFrame(rows, columns=list(types)).astype(types)


def types(frame: pd.DataFrame) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in frame.dtypes.items()}


def genre_slots(genres: list[str]) -> list[tuple[str, str, str]]:
    movies = preprocess_movies(raw_movies(["Brass (1990)"] * len(genres), genres))
    return list(movies[["genre1", "genre2", "genre3"]].itertuples(index=False, name=None))


def seconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp())


@pytest.fixture
def _far_time_zone() -> Iterator[None]:
    """The machine's clock shows another time zone, which must have no say."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "XYZ-13")
        time.tzset()
        yield
    time.tzset()


def test_users_stay_as_they_are() -> None:
    raw = raw_users()
    users = preprocess_users(raw)
    pd.testing.assert_frame_equal(users, raw)
    assert users["zip"].tolist() == ["01234", "98765-4321"]
    users["zip"] = "x"
    assert raw["zip"].tolist() == ["01234", "98765-4321"]


def test_movies_by_hand() -> None:
    titles = ["Brass Lantern (1999)", "Orbit: (2001) (2000)", "Léger (Le Soir) (1919)"]
    movies = preprocess_movies(raw_movies(titles, ["War|Drama", "Comedy", "Action|War|Drama|Crime"]))
    assert movies.to_dict("list") == {
        "movie_id": [10, 11, 12],
        "title": ["Brass Lantern", "Orbit: (2001)", "Léger (Le Soir)"],
        "genres": ["War|Drama", "Comedy", "Action|War|Drama|Crime"],
        "movie_year": [1999, 2000, 1919],
        "movie_decade": ["1990s", "2000s", "1910s"],
        "genre1": ["War", "Comedy", "Action"],
        "genre2": ["Drama", "no", "War"],
        "genre3": ["no", "no", "Drama"],
    }
    strings = dict.fromkeys(("title", "genres", "movie_decade", "genre1", "genre2", "genre3"), "str")
    assert types(movies) == {"movie_id": "int32", "movie_year": "int16"} | strings


@pytest.mark.parametrize(
    ("genres", "slots"),
    [
        ("Drama", ("Drama", "no", "no")),
        ("War|Drama", ("War", "Drama", "no")),
        ("War|Drama|Action", ("War", "Drama", "Action")),
        ("War|Drama|Action|Crime|Comedy", ("War", "Drama", "Action")),
    ],
)
def test_genres_fill_three_slots_in_file_order(genres: str, slots: tuple[str, str, str]) -> None:
    # Alone, so that no other row decides how many columns there are, and beside others.
    assert genre_slots([genres]) == [slots]
    assert genre_slots(["Film-Noir", genres, "A|B|C|D"])[1] == slots


@pytest.mark.parametrize(
    ("moment", "year", "month", "decade"),
    [
        ("1970-01-01T00:00:00", 1970, 1, "1970s"),
        ("1999-12-31T23:59:59", 1999, 12, "1990s"),
        ("2000-01-01T00:00:00", 2000, 1, "2000s"),
        ("2000-02-29T23:59:59", 2000, 2, "2000s"),
        ("2000-03-01T00:00:00", 2000, 3, "2000s"),
        ("2000-12-31T23:59:59", 2000, 12, "2000s"),
        ("2001-01-01T00:00:00", 2001, 1, "2000s"),
        ("2009-12-31T23:59:59", 2009, 12, "2000s"),
        ("2010-01-01T00:00:00", 2010, 1, "2010s"),
    ],
)
@pytest.mark.usefixtures("_far_time_zone")
def test_moment_of_a_rating_is_utc(moment: str, year: int, month: int, decade: str) -> None:
    ratings = preprocess_ratings(raw_ratings([(1, 10, 5, seconds(moment))]))
    assert ratings[["rating_year", "rating_month", "rating_decade"]].iloc[0].tolist() == [year, month, decade]


def test_ratings_keep_order_columns_and_types() -> None:
    raw = raw_ratings([(2, 11, 3, 978307199), (1, 10, 5, 978307200), (2, 10, 1, 0)])
    ratings = preprocess_ratings(raw)
    pd.testing.assert_frame_equal(ratings[[*raw]], raw)
    added = {"rating_year": "int16", "rating_month": "int8", "rating_decade": "str", "label": "int8"}
    assert types(ratings) == types(raw) | added
    assert ratings["rating_year"].tolist() == [2000, 2001, 1970]
    assert "rating_year" not in raw


def joined(rows: list[tuple[int, int, int, int]]) -> pd.DataFrame:
    movies = raw_movies(["Brass (1990)", "Orbit (2000)", "Unseen (1980)"], ["Drama", "War|Crime", "Comedy"])
    return join_interactions(
        preprocess_users(raw_users()), preprocess_movies(movies), preprocess_ratings(raw_ratings(rows))
    )


def test_join_keeps_the_order_of_the_ratings() -> None:
    interactions = joined([(2, 11, 3, 5), (1, 10, 5, 4), (2, 10, 4, 3), (1, 11, 1, 2)])
    columns = ["user_id", "movie_id", "timestamp", "gender", "zip", "title", "movie_year", "genre1"]
    assert interactions[columns].to_numpy().tolist() == [
        [2, 11, 5, "M", "98765-4321", "Orbit", 2000, "War"],
        [1, 10, 4, "F", "01234", "Brass", 1990, "Drama"],
        [2, 10, 3, "M", "98765-4321", "Brass", 1990, "Drama"],
        [1, 11, 2, "F", "01234", "Orbit", 2000, "War"],
    ]
    assert interactions.index.tolist() == [0, 1, 2, 3]


def test_label_is_a_rating_of_four_or_five() -> None:
    interactions = joined([(1, 10, rating, 0) for rating in (1, 2, 3, 4, 5)])
    assert interactions["label"].tolist() == [0, 0, 0, 1, 1]
    assert str(interactions["label"].dtype) == "int8"


def test_interactions_hold_every_field_and_lose_no_row(small_raw: RawTables, small_interactions: pd.DataFrame) -> None:
    assert set(schema.FIELD_NAMES) < set(small_interactions.columns)
    assert not small_interactions.isna().any().any()
    pd.testing.assert_frame_equal(small_interactions[[*small_raw.ratings]], small_raw.ratings)
