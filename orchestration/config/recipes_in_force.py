"""The enabled recipes of recipes.yaml, which assets, jobs and commands follow."""

from collections.abc import Mapping
from functools import cache

from ml.data.tables_format import table_format
from ml.errors import DataError
from ml.training.recipes import PAPER, REFERENCE, Protocol, Recipe, load_recipes
from orchestration.config.data_sets import described
from orchestration.config.settings import settings


@cache
def recipes_in_force() -> Mapping[str, Recipe]:
    """The enabled recipes by name, in the file's order; read once per process. Raises DataError."""
    own = [table_format(name, each).description for name, each in described().items() if each.reader == "table"]
    return load_recipes(settings().recipes_yaml, own)


def reference_models() -> tuple[str, ...]:
    """The models of the reference protocol. Raises DataError where no such recipe is enabled."""
    return required(models_of(recipes_in_force(), REFERENCE), REFERENCE)


def paper_models() -> tuple[str, ...]:
    """The models of the paper's protocol; empty where no such recipe is enabled."""
    return models_of(recipes_in_force(), PAPER)


def models_of(recipes: Mapping[str, Recipe], protocol: Protocol) -> tuple[str, ...]:
    """Names of the recipes of a protocol."""
    return tuple(name for name, recipe in recipes.items() if recipe.protocol == protocol)


def required(models: tuple[str, ...], protocol: Protocol) -> tuple[str, ...]:
    """The models of a protocol. Raises DataError where there are none."""
    if not models:
        raise DataError(f"recipes.yaml: no recipe of protocol {protocol} is enabled; expected at least one")
    return models
