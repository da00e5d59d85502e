from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

from ml.data.formats import RawTables
from ml.data.movielens_tables import preprocess_movies, preprocess_users
from ml.features.collaborative import CollaborativeConfig
from ml.features.feature_map import FeatureMap
from ml.features.tables import join_interactions, preprocess_ratings
from ml.training.config import TrainingConfig
from ml.training.recipes import PAPER, Recipe, recipes_text
from orchestration.assets.collaborative import _configs, collaborative_assets
from orchestration.definitions import build_definitions
from orchestration.resources.raw_data import RawData
from tests.feature_maps import fitted
from tests.orchestration.recipes import COLLABORATIVE_MODELS, RECIPES

OWN = {name: RECIPES[name] for name in COLLABORATIVE_MODELS}


def version_with(recipe: Recipe) -> str | None:
    [asset] = collaborative_assets({**OWN, "autoint_catalogue": recipe})
    return asset.code_versions_by_key[dg.AssetKey("collaborative_features")]


@pytest.fixture
def small_feature_map(small_raw: RawTables) -> FeatureMap:
    users, movies = preprocess_users(small_raw.users), preprocess_movies(small_raw.movies)
    return fitted(join_interactions(users, movies, preprocess_ratings(small_raw.ratings)))


def test_without_such_recipes_there_is_no_such_asset(env: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "recipes.yaml"
    path.write_text(recipes_text({"autoint": RECIPES["autoint"]}), encoding="utf-8")
    env.setenv("RECIPES_YAML", str(path))
    graph = build_definitions().resolve_asset_graph()
    assert dg.AssetKey("autoint") in graph.get_all_asset_keys()
    assert dg.AssetKey("collaborative_features") not in graph.get_all_asset_keys()


def test_only_the_collaborative_features_of_the_recipes_are_part_of_the_version() -> None:
    recipe = RECIPES["autoint_catalogue"]
    other = recipe.model_copy(update={"training": TrainingConfig(seed=77), "fields": ("genre1",), "without": ()})
    assert version_with(other) == version_with(recipe)
    assert version_with(recipe.model_copy(update={"signals": CollaborativeConfig(folds=2)})) != version_with(recipe)


def test_features_are_fitted_for_the_recipes_that_the_data_set_can_train(small_feature_map: FeatureMap) -> None:
    recipes = {**OWN, "papers": OWN["autoint_collaborative"].model_copy(update={"protocol": PAPER})}
    assert set(_configs(recipes, RawData.of("films"), small_feature_map)) == set(OWN)
    assert set(_configs(recipes, RawData.of("films+temporal"), small_feature_map)) == set(OWN)
    assert set(_configs(recipes, RawData.of("films+paper"), small_feature_map)) == {"papers"}
    only_likes = replace(small_feature_map, liked=None)  # autoint_collaborative tells likes from dislikes
    assert set(_configs(recipes, RawData.of("films"), only_likes)) == {"autoint_catalogue"}


def test_affinities_are_those_that_the_data_set_has(small_feature_map: FeatureMap) -> None:
    fewer = replace(small_feature_map, fields=tuple(f for f in small_feature_map.fields if f.name != "genre2"))
    found = _configs(OWN, RawData.of("films"), fewer)["autoint_collaborative"]
    assert found.affinity_fields == ("genre1", "genre3", "movie_decade")
