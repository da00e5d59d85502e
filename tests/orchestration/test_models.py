from typing import Any

import dagster as dg
import pytest

from ml.errors import DataError
from ml.training.config import TrainingConfig, WarmStartConfig
from orchestration.assets.models import _attention_metadata, model_asset
from orchestration.config.launch_config import RETRAIN, launch_settings, with_settings
from orchestration.config.recipes_in_force import models_of, required
from tests.orchestration.recipes import RECIPES


@pytest.mark.parametrize("name", RECIPES)
def test_a_launch_without_settings_follows_the_recipe(name: str) -> None:
    settings = launch_settings(name, RECIPES[name])()
    assert with_settings(RECIPES[name], settings.model_dump(exclude={RETRAIN})) == RECIPES[name]


@pytest.mark.parametrize("name", RECIPES)
def test_a_launch_changes_what_it_sets_and_nothing_else(name: str) -> None:
    recipe = RECIPES[name]
    settings = launch_settings(name, recipe)(training={"seed": 77}, model={"num_layers": 4})
    changed = with_settings(recipe, settings.model_dump(exclude={RETRAIN}))
    assert changed.training == recipe.training.model_copy(update={"seed": 77})
    assert changed.model == recipe.model.model_copy(update={"num_layers": 4})
    assert type(changed.model) is type(recipe.model)
    assert changed.signals == recipe.signals


def test_models_are_the_recipes_of_a_protocol() -> None:
    recipes = {name: RECIPES[name] for name in ("autoint", "paper_autoint")}
    assert models_of(recipes, "reference") == ("autoint",)
    assert models_of(recipes, "paper") == ("paper_autoint",)
    assert models_of({"autoint": RECIPES["autoint"]}, "paper") == ()


def test_a_protocol_without_recipes_is_named() -> None:
    assert required(("autoint",), "reference") == ("autoint",)
    with pytest.raises(DataError, match="no recipe of protocol reference is enabled"):
        required((), "reference")


@pytest.mark.parametrize(
    ("change", "shows"),
    [
        ({"fields": ("user_id", "movie_id")}, True),
        ({"warm_start": WarmStartConfig()}, True),
        ({"numbers": ("timestamp",)}, True),
        ({"description": "Other words."}, False),
        ({"training": TrainingConfig(epochs=1)}, False),  # these are compared with those of the last launch
    ],
)
def test_what_no_launch_can_set_is_part_of_the_assets_version(change: dict[str, Any], shows: bool) -> None:
    recipe = RECIPES["autoint"]
    key = dg.AssetKey("autoint")
    versions = [
        model_asset("autoint", own).code_versions_by_key[key] for own in (recipe, recipe.model_copy(update=change))
    ]
    assert (versions[0] != versions[1]) == shows


def test_a_version_without_attention_maps_shows_none() -> None:
    """Such as one of an earlier release."""
    assert _attention_metadata(None) == {}
    [(name, value)] = _attention_metadata({"features": ["age"], "weights": [[[[1.0]]]]}).items()
    assert name == "attention"
    assert "%3Cimage" in value.value or "<image" in value.value
