"""The recipes of recipes.yaml that are enabled: assets, jobs and commands follow them."""

from collections.abc import Mapping

from ml.errors import DataError
from ml.training.recipes import PAPER, REFERENCE, Protocol, Recipe, load_recipes
from orchestration.config.settings import Settings


def models_of(recipes: Mapping[str, Recipe], protocol: Protocol) -> tuple[str, ...]:
    """Names of the recipes of a protocol."""
    return tuple(name for name, recipe in recipes.items() if recipe.protocol == protocol)


def required(models: tuple[str, ...], protocol: Protocol) -> tuple[str, ...]:
    """The models of a protocol. Raises DataError where there are none."""
    if not models:
        raise DataError(f"recipes.yaml: no recipe of protocol {protocol} is enabled; expected one at least")
    return models


RECIPES = load_recipes(Settings().recipes_file)
MODELS = required(models_of(RECIPES, REFERENCE), REFERENCE)
PAPER_MODELS = models_of(RECIPES, PAPER)
