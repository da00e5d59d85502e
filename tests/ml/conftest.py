"""The small synthetic data set as tables, to be read only."""

import pandas as pd
import pytest

from ml.data.movielens import RawTables
from ml.features.feature_map import FeatureMap
from ml.features.tables import join_interactions, preprocess_movies, preprocess_ratings, preprocess_users


@pytest.fixture(scope="session")
def small_users(small_raw: RawTables) -> pd.DataFrame:
    return preprocess_users(small_raw.users)


@pytest.fixture(scope="session")
def small_movies(small_raw: RawTables) -> pd.DataFrame:
    return preprocess_movies(small_raw.movies)


@pytest.fixture(scope="session")
def small_interactions(small_raw: RawTables, small_users: pd.DataFrame, small_movies: pd.DataFrame) -> pd.DataFrame:
    return join_interactions(small_users, small_movies, preprocess_ratings(small_raw.ratings))


@pytest.fixture(scope="session")
def small_feature_map(small_interactions: pd.DataFrame) -> FeatureMap:
    return FeatureMap.fit(small_interactions)
