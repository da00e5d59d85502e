"""Collaborative features for tests."""

import pandas as pd

from ml.features.collaborative import CollaborativeConfig, CollaborativeTables, parts_of
from ml.features.collaborative_folds import CollaborativeFolds
from ml.features.feature_map import FeatureMap
from ml.training.data import PAIR
from ml.training.next_item import learn_next_items
from ml.training.recipes import Recipe


def fit_tables(train: pd.DataFrame, users: int, movies: int, config: CollaborativeConfig) -> CollaborativeTables:
    """Fit a network's features on all of these rows, one after the other."""
    parts = parts_of(config, learn_next_items)
    return CollaborativeTables.of_columns(
        [part.name for part in parts], [part.fit(train, (users, movies)) for part in parts]
    )


def folds_of(recipe: Recipe, train: pd.DataFrame, feature_map: FeatureMap) -> CollaborativeFolds | None:
    """Fit a recipe's features as the pipeline does; None for a recipe without them."""
    signals = recipe.within(feature_map).signals
    sizes = (feature_map.field_dims[position] for position in PAIR)
    return CollaborativeFolds.fit(train, *sizes, [signals], learn_next_items=learn_next_items) if signals else None
