import numpy as np
import pandas as pd
import pytest

from ml.data.formats import RawTables
from ml.data.history import BASE
from ml.data.movielens_tables import preprocess_movies, preprocess_users
from ml.errors import DataError
from ml.features.feature_map import FeatureMap
from ml.features.sides import Sides, encode_ratings, telling_rows
from ml.features.tables import join_interactions, preprocess_ratings
from ml.schema import MOVIELENS
from tests.feature_maps import encode_interactions, fitted


@pytest.fixture(scope="module")
def tables(small_raw: RawTables) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    ratings = preprocess_ratings(small_raw.ratings).assign(
        ingestion_batch=np.int32(3), first_ingestion_batch=np.int32(1)
    )
    return preprocess_users(small_raw.users), preprocess_movies(small_raw.movies), ratings


def test_looked_up_features_are_those_of_the_join(tables: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]) -> None:
    joined = join_interactions(*tables)
    feature_map = fitted(joined)
    users, movies, ratings = tables
    shuffled = users.sample(frac=1, random_state=1), movies.sample(frac=1, random_state=2)
    found = encode_ratings(ratings, Sides.of(feature_map, *shuffled), feature_map)
    pd.testing.assert_frame_equal(found, encode_interactions(joined, feature_map))


def test_an_unknown_user_is_refused(tables: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]) -> None:
    users, movies, ratings = tables
    feature_map = fitted(join_interactions(*tables))
    stranger = ratings.head(3).assign(user_id=np.int32(999_999))
    with pytest.raises(DataError, match="user_id 999999 is unknown"):
        encode_ratings(stranger, Sides.of(feature_map, users, movies), feature_map)


@pytest.mark.parametrize("block", [1, 100, 100_000])
def test_telling_rows_make_the_same_feature_map(
    tables: tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame], block: int
) -> None:
    users, movies, ratings = tables
    ratings = ratings.head(600).assign(ingestion_batch=np.repeat([BASE, 1, 2], 200).astype(np.int32))
    users, movies = (table.assign(ingestion_batch=np.int32(BASE)) for table in (users, movies))
    told = telling_rows(ratings.iloc[start : start + block] for start in range(0, len(ratings), block))
    assert block == 1 or len(told) < len(ratings)
    expected = FeatureMap.grow(users, movies, ratings, MOVIELENS)
    assert FeatureMap.grow(users, movies, told, MOVIELENS) == expected
