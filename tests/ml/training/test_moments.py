"""A recipe with features of the rating's moment continues from an earlier model."""

import keras
import numpy as np
import pandas as pd
import pytest

from ml import schema
from ml.features.feature_map import FeatureMap
from ml.features.moments import map_with_moments, with_first_times, with_moments
from ml.models.bundle import ModelBundle
from ml.training.data import TrainingData
from ml.training.fitting import Fitting
from ml.training.recipes import Recipe
from ml.training.warm_start import NoWarmStartError, continue_from
from tests.feature_maps import encode_interactions, fitted
from tests.ml.models.reference import randomize

RECIPE = Recipe(
    description="For tests.",
    architecture="autoint",
    fields=("user_id", "movie_year"),
    moments=("session_position", "rating_hour"),
    model={"embed_dim": 4, "num_layers": 1, "head_dim": 4},  # type: ignore[arg-type]
)


def made_of(
    interactions: pd.DataFrame, movies: pd.DataFrame, recipe: Recipe
) -> tuple[pd.DataFrame, FeatureMap, Fitting]:
    """Rows and feature map with the recipe's moments, and a training on them."""
    feature_map = fitted(interactions)
    encoded = encode_interactions(interactions.reset_index(drop=True), feature_map)
    rows = with_moments(encoded.assign(row=np.arange(len(encoded))), encoded, recipe.moments)
    wide = map_with_moments(feature_map, rows, recipe.moments)
    return rows, wide, Fitting(recipe, TrainingData.of(recipe, rows, wide, movies))


def scores(network: keras.Model, rows: pd.DataFrame, feature_map: FeatureMap) -> np.ndarray:
    return np.asarray(network(rows[list(feature_map.names)].to_numpy()))[:, 0]


def test_rows_of_known_values_keep_their_scores(
    small_interactions: pd.DataFrame, small_movies: pd.DataFrame, small_users: pd.DataFrame
) -> None:
    known = small_interactions["user_id"] % 10 != 3
    rows, then, earlier = made_of(small_interactions[known], small_movies, RECIPE)
    randomize(earlier.network, scale=0.5)
    users = with_first_times(small_users, rows, then)
    champion = ModelBundle.of(earlier.network, then, users, small_movies)
    assert [*champion.users] == ["user_id"]  # a reader of the bundle learns no times
    now_rows, now, fitting = made_of(small_interactions, small_movies, RECIPE)
    continue_from(champion, fitting.network, RECIPE, now)
    found = scores(fitting.network, now_rows[known.to_numpy()], now)
    assert found.std() > 0.01
    np.testing.assert_allclose(found, scores(earlier.network, rows, then), atol=1e-6)


@pytest.mark.parametrize("moments", [(), ("rating_hour",), ("rating_hour", "session_position")])
def test_other_moments_are_trained_from_scratch(
    small_interactions: pd.DataFrame, small_movies: pd.DataFrame, small_users: pd.DataFrame, moments: tuple[str, ...]
) -> None:
    _, then, earlier = made_of(small_interactions, small_movies, RECIPE)
    champion = ModelBundle.of(earlier.network, then, small_users, small_movies)
    other = RECIPE.model_copy(update={"moments": moments})
    _, now, fitting = made_of(small_interactions, small_movies, other)
    with pytest.raises(NoWarmStartError, match=f"features are {', '.join((*schema.FIELD_NAMES, *moments))}, in the"):
        continue_from(champion, fitting.network, other, now)
