"""The collaborative features, fitted once for all recipes that have some."""

import time
from collections.abc import Mapping
from typing import Any

import dagster as dg
import pandas as pd

from ml.features.collaborative import CollaborativeConfig
from ml.features.collaborative_folds import CollaborativeFolds
from ml.features.collaborative_tables import CollaborativeTables
from ml.features.feature_map import FeatureMap
from ml.features.sides import Sides
from ml.features.splits import PAPER
from ml.files import digest
from ml.training.recipes import Recipe
from orchestration.assets.common import COLLABORATIVE, FOLDS, OWNERS, PRIORITY
from orchestration.compute.resource import Compute
from orchestration.config.code_versions import code_version
from orchestration.config.data_sets import DATA_SETS
from orchestration.resources.raw_data import RawData


def collaborative_assets(recipes: Mapping[str, Recipe]) -> list[dg.AssetsDefinition]:
    """The asset of the collaborative features; none if no recipe has some."""
    own = {name: recipe for name, recipe in recipes.items() if recipe.signals}
    return [_collaborative_asset(own)] if own else []


def _collaborative_asset(recipes: Mapping[str, Recipe]) -> dg.AssetsDefinition:
    settings = " ".join(recipe.signals.model_dump_json() for recipe in recipes.values() if recipe.signals)

    @dg.asset(
        name=COLLABORATIVE,
        partitions_def=DATA_SETS,
        description=_description(recipes),
        group_name="features",
        kinds={"numpy"},
        owners=OWNERS,
        io_manager_key=FOLDS,
        code_version=f"{code_version(__name__)}-{digest(settings.encode())}",
        op_tags={PRIORITY: "2"},
    )
    def collaborative_features(
        context: dg.AssetExecutionContext,
        compute: Compute,
        raw_data: RawData,
        train_interactions: pd.DataFrame,
        feature_map: dict[str, Any],
        users: pd.DataFrame,
        movies: pd.DataFrame,
    ) -> dg.MaterializeResult[Any]:
        from ml.training.next_item import learn_next_items

        encoders = FeatureMap.from_dict(feature_map)
        configs = _configs(recipes, raw_data, encoders)
        sides = Sides.of(encoders, users, movies)
        start = time.perf_counter()
        fitted = CollaborativeFolds.fit(
            train_interactions, sides, configs.values(), learn_next_items=learn_next_items, each=compute.each
        )
        seconds = time.perf_counter() - start
        context.log.info(f"Fitted {fitted.fits} tables of {len(configs)} recipes in {seconds:.0f} s")
        return dg.MaterializeResult(
            value=fitted,
            metadata={
                "training_rows": len(train_interactions),
                "fitted_tables": fitted.fits,
                "seconds": round(seconds, 1),
                **compute.facts(),
                **_recipes_metadata(fitted, configs),
            },
        )

    return collaborative_features


def _description(recipes: Mapping[str, Recipe]) -> str:
    return (
        f"Collaborative features of the training rows, for the recipes {', '.join(recipes)}.\n\n"
        "Fitted once for all of these recipes, and for every seed, warm start and tuning: without each fold of the "
        "training rows, so that no rating contributes to the features of its own row, and on all training rows. One "
        "NumPy archive."
    )


def _configs(recipes: Mapping[str, Recipe], raw_data: RawData, encoders: FeatureMap) -> dict[str, CollaborativeConfig]:
    """The collaborative features by recipe, for the recipes that are trained on this data set and split."""
    configs = {}
    for name, recipe in recipes.items():
        of_split = (recipe.protocol == PAPER) == (raw_data.split == PAPER)
        if of_split and not recipe.obstacle(encoders) and (signals := recipe.within(encoders).signals):
            configs[name] = signals
    return configs


def _recipes_metadata(fitted: CollaborativeFolds, configs: Mapping[str, CollaborativeConfig]) -> dict[str, Any]:
    """Features, columns and folds of each recipe."""
    metadata: dict[str, Any] = {}
    for name, config in configs.items():
        tables = fitted.tables(config)
        metadata |= {
            f"{name}.features": _widths(tables),
            f"{name}.columns": sum(tables.widths),
            f"{name}.folds": config.folds,
        }
    return metadata


def _widths(tables: CollaborativeTables) -> str:
    return ", ".join(f"{name} ({width})" for name, width in zip(tables.names, tables.widths, strict=True))
