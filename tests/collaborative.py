"""Collaborative features for tests."""

import pandas as pd

from ml.features.collaborative import CollaborativeConfig, parts_of
from ml.features.collaborative_folds import CollaborativeFolds
from ml.features.collaborative_tables import CollaborativeTables
from ml.features.feature_map import FeatureMap
from ml.features.sides import Sides
from ml.training.next_item import learn_next_items
from ml.training.recipes import Recipe


def fit_tables(train: pd.DataFrame, sides: Sides, config: CollaborativeConfig) -> CollaborativeTables:
    """Fit a network's features on all of these rows, one after the other."""
    parts = parts_of(config, learn_next_items)
    return CollaborativeTables.of_columns([part.name for part in parts], [part.fit(train, sides) for part in parts])


def without_features(users: int, movies: int) -> Sides:
    """Return this many users and movies of whom nothing is known."""
    return Sides(pd.DataFrame({"user_id": range(users)}), pd.DataFrame({"movie_id": range(movies)}))


def sides_of(rows: pd.DataFrame, feature_map: FeatureMap) -> Sides:
    """Return what encoded rows tell of users and movies; those without rows have the first value of each feature."""
    tables = []
    for side, key in (("user", "user_id"), ("movie", "movie_id")):
        names = list(feature_map.side(side).names)
        known = rows[names].drop_duplicates(key).set_index(key)
        tables.append(known.reindex(range(len(feature_map[key].values)), fill_value=0).reset_index())
    return Sides(*tables)


def folds_of(recipe: Recipe, train: pd.DataFrame, feature_map: FeatureMap) -> CollaborativeFolds | None:
    """Fit a recipe's features as the pipeline does; None for a recipe without them."""
    signals, sides = recipe.within(feature_map).signals, sides_of(train, feature_map)
    return CollaborativeFolds.fit(train, sides, [signals], learn_next_items=learn_next_items) if signals else None
