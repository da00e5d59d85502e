"""What all assets share."""

from collections.abc import Mapping, Sequence

import dagster as dg

from ml.errors import DataError
from ml.training.recipes import PAPER, REFERENCE, Protocol, Recipe, load_recipes
from orchestration.monitoring_config import load_monitoring_config
from orchestration.settings import Settings

OWNERS = ["team:recommendations"]
# For what passes by itself: a network that fails, a locked database, a process that ran out of memory.
TRANSIENT = dg.RetryPolicy(max_retries=2, delay=2, backoff=dg.Backoff.EXPONENTIAL)
DOCUMENTS = "document_io_manager"


def models_of(recipes: Mapping[str, Recipe], protocol: Protocol) -> tuple[str, ...]:
    """Names of the recipes of a protocol."""
    return tuple(name for name, recipe in recipes.items() if recipe.protocol == protocol)


def required(models: tuple[str, ...], protocol: Protocol) -> tuple[str, ...]:
    """The models of a protocol. Raises DataError where there are none."""
    if not models:
        raise DataError(f"recipes.yaml: no recipe of protocol {protocol} is enabled; expected one at least")
    return models


def inputs_of(models: Sequence[str], *parts: str) -> dict[str, dg.AssetIn]:
    """Each model's version, and its assets of these names."""
    versions = {f"{model}_version": dg.AssetIn(model) for model in models}
    return versions | {f"{model}_{part}": dg.AssetIn(f"{model}_{part}") for model in models for part in parts}


RECIPES = load_recipes(Settings().recipes_file)  # the assets follow this list
MODELS = required(models_of(RECIPES, REFERENCE), REFERENCE)
PAPER_MODELS = models_of(RECIPES, PAPER)
MONITORING = load_monitoring_config()
