"""Begin a training from an earlier model's weights, on the rows that came since and some of the old ones.

Codes may have changed since then, so that embeddings are found by the values that they are of.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd

from ml import schema
from ml.errors import DataError
from ml.features.feature_map import FeatureMap
from ml.features.membership import membership_of
from ml.models.autoint import inner_network
from ml.models.bundle import ModelBundle
from ml.models.numerical import NumericalEmbedding
from ml.training.config import WarmStartConfig
from ml.training.recipes import Recipe
from ml.training.trainer import fitted_rows

# Of a layer's settings, what new rows change and what decides its first weights alone.
_MAY_DIFFER = {"field_dims", "shape", "centres", "scales", "seed"}
_INITIALIZER = "_initializer"  # ends the names of others that do

_Vocabularies = Sequence[tuple[pd.Index, pd.Index]]  # of each field, then and now
_Values = list[tuple[keras.Variable, np.ndarray]]


class NoWarmStartError(ValueError):
    """A model has to be trained from scratch; the message is the reason, part of a sentence."""


@dataclass(frozen=True)
class ChosenRows:
    """Training rows that a warm start learns from.

    Attributes:
        positions: int64 [new + replayed], among the training rows, in shuffled order.
        new: how many came after those that the earlier model has learned.
        replayed: how many are old.
    """

    positions: np.ndarray
    new: int
    replayed: int


def last_batch(train_interactions: pd.DataFrame) -> int:
    """The highest batch number among the rows. Raises DataError where they have no such column."""
    if schema.BATCH not in train_interactions:
        raise DataError(
            f"train_interactions has no column {schema.BATCH}, by which a warm start knows new rows; materialize "
            "ratings and what follows anew"
        )
    return int(train_interactions[schema.BATCH].max())


def choose_rows(train_interactions: pd.DataFrame, recipe: Recipe, settings: WarmStartConfig, since: int) -> ChosenRows:
    """Every row of a batch after ``since``, and ``replay`` times as many others, as far as there are so many.

    A recipe with negatives learns from likes, so that only those are chosen. New and replayed rows are shuffled
    together: the validation rows at their end hold both in the same mix. The old ones among these were mostly learned
    before, so that the validation loss is below that of a training from scratch; it tells whether this training goes
    well, test rows tell which model is better.

    Args:
        train_interactions: encoded rows with ``ingestion_batch``. A row that was rated anew has its new batch.
        recipe: whose training seed, with ``since``, decides which old rows are drawn and the order.
        settings: of the warm start.
        since: the last batch, from 0, that the earlier model has learned.

    Raises:
        NoWarmStartError: there are no new rows, or with the replayed ones too few to fit and to validate on.
    """
    last_batch(train_interactions)
    learned = np.ones(len(train_interactions), bool)
    if recipe.negatives:
        learned = train_interactions[schema.LABEL].to_numpy() == 1
    is_new = train_interactions[schema.BATCH].to_numpy() > since
    new, old = np.flatnonzero(learned & is_new), np.flatnonzero(learned & ~is_new)
    if not new.size:
        raise NoWarmStartError(f"no row to learn from came after batch {since}")
    rng = np.random.default_rng([recipe.training.seed, since])
    replayed = rng.choice(old, min(len(old), round(settings.replay * len(new))), replace=False)
    positions = rng.permutation(np.concatenate([new, replayed]))
    if not fitted_rows(len(positions), recipe.training):
        raise NoWarmStartError(f"{len(positions)} rows are too few to fit and to validate on")
    return ChosenRows(positions, len(new), len(replayed))


def warm_recipe(recipe: Recipe, settings: WarmStartConfig) -> Recipe:
    """The recipe with the warm start's epochs and learning rate."""
    changes = {"epochs": settings.epochs, "learning_rate": settings.learning_rate or recipe.training.learning_rate}
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=changes)})


def continue_from(
    earlier: ModelBundle, network: keras.Model, recipe: Recipe, feature_map: FeatureMap, movies: pd.DataFrame
) -> None:
    """Give a new network the weights of an earlier one; the rows of values that it did not know stay as they are.

    For rows of values that the earlier network knows, and the same signals, the new one then says the same. Numbers
    are standardised anew, and their embeddings written down so that this changes nothing.

    Args:
        earlier: the model to go on from.
        network: as ``build_model`` made it, by the same recipe; not changed where this raises.
        recipe: whose fields and multivalued fields the networks embed.
        feature_map: the present encoders, with perhaps other values and other codes than the earlier model's.
        movies: the present movies table.

    Raises:
        NoWarmStartError: the networks are not of the same layers with the same settings and shapes.
    """
    source = inner_network(earlier.network)
    if earlier.feature_map.names != feature_map.names:
        raise NoWarmStartError(
            f"fields are {', '.join(feature_map.names)}, in the earlier model {', '.join(earlier.feature_map.names)}"
        )
    names, earlier_names = ([layer.name for layer in each.layers] for each in (network, source))
    if names != earlier_names:
        raise NoWarmStartError(f"layers are {', '.join(names)}, in the earlier network {', '.join(earlier_names)}")
    vocabularies = _vocabularies(earlier, recipe, feature_map, movies)
    values: _Values = []
    for layer, old in zip(network.layers, source.layers, strict=True):
        _require_same_settings(layer, old)
        values += _values_of(layer, old, vocabularies.get(layer.name))
    for weight, value in values:  # all are known to fit before the first is changed
        weight.assign(value)


def _vocabularies(
    earlier: ModelBundle, recipe: Recipe, feature_map: FeatureMap, movies: pd.DataFrame
) -> dict[str, _Vocabularies]:
    """By the names that the builders give to layers with a table of values: what its rows are of, then and now."""
    found: dict[str, _Vocabularies] = {
        "embedding": [(earlier.feature_map[name].index, feature_map[name].index) for name in recipe.fields]
    }
    present = feature_map.known("movie_id", movies)
    for name in recipe.multivalued:
        then, now = (pd.Index(membership_of(table[name])[0]) for table in (earlier.movies, present))
        found[f"{name}_embedding"] = [(then, now)]
    return found


def _require_same_settings(layer: keras.layers.Layer, old: keras.layers.Layer) -> None:
    """Shapes alone do not tell, for instance, whether attention scores are scaled."""
    own, others = ({"class": type(each).__name__, **each.get_config()} for each in (layer, old))
    for name, value in own.items():
        if name in _MAY_DIFFER or name.endswith(_INITIALIZER):
            continue
        now, then = (json.dumps(each, default=str, sort_keys=True) for each in (value, others.get(name)))
        if now != then:
            raise NoWarmStartError(f"{layer.name}'s {name} is {now}, in the earlier network {then}")


def _values_of(layer: keras.layers.Layer, old: keras.layers.Layer, vocabularies: _Vocabularies | None) -> _Values:
    """What each of the layer's weights is to become. Raises NoWarmStartError."""
    if vocabularies is not None:  # a membership beside the table is the present movies', and stays
        return [(layer.table, _by_value(layer, old, vocabularies))]
    values = [(weight, np.asarray(other)) for weight, other in zip(layer.weights, old.weights, strict=True)]
    for weight, value in values:
        if tuple(weight.shape) != value.shape:
            raise NoWarmStartError(f"{weight.path} is {tuple(weight.shape)}, in the earlier network {value.shape}")
    return _restandardised(layer, old) if isinstance(layer, NumericalEmbedding) else values


def _by_value(layer: keras.layers.Layer, old: keras.layers.Layer, vocabularies: _Vocabularies) -> np.ndarray:
    """The new layer's table [rows, width] with the earlier one's row for every value that both know."""
    table, earlier = np.asarray(layer.table).copy(), np.asarray(old.table)
    sizes = [sum(len(vocabulary) for vocabulary in each) for each in zip(*vocabularies, strict=True)]
    if sizes != [len(earlier), len(table)] or table.shape[1:] != earlier.shape[1:]:
        raise NoWarmStartError(
            f"{layer.name}'s table is {table.shape} for {sizes[1]} values, in the earlier network {earlier.shape} for "
            f"{sizes[0]}"
        )
    start = earlier_start = 0
    for then, now in vocabularies:
        found = then.get_indexer(now)
        known = np.flatnonzero(found >= 0)
        table[start + known] = earlier[earlier_start + found[known]]
        start, earlier_start = start + len(now), earlier_start + len(then)
    return table


def _restandardised(layer: NumericalEmbedding, old: NumericalEmbedding) -> _Values:
    """Weights with which the layer's own centres and scales give what the earlier one's give.

    ``v (x - c) / s + w = v' (x - c') / s' + w'`` for every x where ``v' = v s' / s`` and ``w' = w + v (c' - c) / s``.
    """
    direction, offset = (np.asarray(weight, np.float64) for weight in (old.direction, old.offset))
    by_scale = direction / np.array(old.scales)[:, None]
    shift = np.array(layer.centres) - np.array(old.centres)
    values = (
        (layer.direction, by_scale * np.array(layer.scales)[:, None]),
        (layer.offset, offset + by_scale * shift[:, None]),
    )
    return [(weight, value.astype(np.float32)) for weight, value in values]
