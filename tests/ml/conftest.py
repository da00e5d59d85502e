"""The small synthetic data set as tables, to be read only."""

import keras
import pandas as pd
import pytest

from ml.data.formats import RawTables
from ml.data.movielens_tables import preprocess_movies, preprocess_users
from ml.features.feature_map import FeatureMap
from ml.features.tables import join_interactions, preprocess_ratings
from ml.models.autoint import Inputs, build_model
from ml.models.bundle import ModelBundle
from ml.models.config import AutoIntConfig
from tests.feature_maps import fitted
from tests.ml.models.reference import randomize


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
    return fitted(small_interactions)


@pytest.fixture(scope="session")
def network(small_feature_map: FeatureMap) -> keras.Model:
    """A tiny AutoInt with random weights, so that every field matters to its scores."""
    config = AutoIntConfig(embed_dim=4, num_layers=1, num_heads=2, head_dim=2)
    model = build_model("autoint", Inputs(small_feature_map.field_dims), config, seed=1)
    randomize(model, scale=0.5)
    return model


@pytest.fixture(scope="session")
def bundle(
    network: keras.Model, small_feature_map: FeatureMap, small_users: pd.DataFrame, small_movies: pd.DataFrame
) -> ModelBundle:
    """Made of tables in another order than that of the ids."""
    return ModelBundle.of(
        network, small_feature_map, small_users.iloc[::-1], small_movies.sample(frac=1, random_state=1)
    )
