"""Start a training from an earlier model's weights, on the rows that came since and some of the old ones.

Indices may differ between the two, so embeddings are matched by value.
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
from ml.models.autoint import inner_network
from ml.models.bundle import ModelBundle
from ml.models.numerical import NumericalEmbedding
from ml.training.config import WarmStartConfig
from ml.training.recipes import Recipe
from ml.training.trainer import fitted_rows

# Settings of a layer that new rows change, or that only decide its first weights.
_MAY_DIFFER = {"field_dims", "shape", "centres", "scales", "seed"}
_INITIALIZER = "_initializer"  # suffix of further settings that only decide first weights

_Vocabularies = Sequence[tuple[pd.Index, pd.Index]]  # of each feature, then and now
_Values = list[tuple[keras.Variable, np.ndarray]]


class NoWarmStartError(ValueError):
    """A model must be trained from scratch; the message is the reason, without capital and period."""


@dataclass(frozen=True)
class ChosenRows:
    """Training rows of a warm start.

    Attributes:
        positions: int64 [new + replayed], among the training rows, in shuffled order.
        new: number of rows that came after those that the earlier model learned from.
        replayed: number of old rows.
    """

    positions: np.ndarray
    new: int
    replayed: int


def last_batch(train_interactions: pd.DataFrame) -> int:
    """Return the highest batch number among the rows. Raises DataError if they have no such column."""
    if schema.BATCH not in train_interactions:
        raise DataError(
            f"train_interactions has no column {schema.BATCH}, which tells a warm start the new rows; rebuild ratings "
            "and everything downstream"
        )
    return int(train_interactions[schema.BATCH].max())


def choose_rows(train_interactions: pd.DataFrame, recipe: Recipe, settings: WarmStartConfig, since: int) -> ChosenRows:
    """Choose every row of a batch after ``since``, and up to ``replay`` times as many old rows.

    A recipe with negatives learns from likes, so only likes are chosen. New and replayed rows are shuffled together, so
    the validation rows at their end have both in the same mix. Most old ones among them were learned before, so the
    validation loss is lower than that of a training from scratch: it shows whether this training goes well, and test
    rows show which model is better.

    Args:
        train_interactions: encoded rows with ``ingestion_batch``, that of the latest rating of the pair.
        recipe: its training seed, with ``since``, decides which old rows are drawn, and the order.
        settings: of the warm start.
        since: the last batch, from 0, that the earlier model learned from.

    Raises:
        NoWarmStartError: there are no new rows, or too few rows in all to train and to validate on.
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
        raise NoWarmStartError(f"{len(positions)} rows are too few to train and to validate on")
    return ChosenRows(positions, len(new), len(replayed))


def warm_recipe(recipe: Recipe, settings: WarmStartConfig) -> Recipe:
    """Return the recipe with the warm start's epochs and learning rate."""
    changes = {"epochs": settings.epochs, "learning_rate": settings.learning_rate or recipe.training.learning_rate}
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=changes)})


def continue_from(earlier: ModelBundle, network: keras.Model, recipe: Recipe, feature_map: FeatureMap) -> None:
    """Copy the weights of an earlier network to a new one; embeddings of new values keep their initial weights.

    For rows with known values and the same collaborative features, both networks then return the same. Numeric features
    have a new mean and scale; their embeddings are converted so that this changes nothing.

    Args:
        earlier: the model to continue from.
        network: from ``build_model`` and the same recipe; unchanged if this raises.
        recipe: of both networks.
        feature_map: the present one, which can have more values and other indices than the earlier model's.

    Raises:
        NoWarmStartError: the networks differ in layers, settings or shapes.
    """
    source = inner_network(earlier.network)
    if earlier.feature_map.names != feature_map.names:
        raise NoWarmStartError(
            f"features are {', '.join(feature_map.names)}, in the earlier model {', '.join(earlier.feature_map.names)}"
        )
    names, earlier_names = ([layer.name for layer in each.layers] for each in (network, source))
    if names != earlier_names:
        raise NoWarmStartError(f"layers are {', '.join(names)}, in the earlier network {', '.join(earlier_names)}")
    vocabularies = _vocabularies(earlier.feature_map, recipe.within(feature_map), feature_map)
    values: _Values = []
    for layer, old in zip(network.layers, source.layers, strict=True):
        _require_same_settings(layer, old)
        values += _values_of(layer, old, vocabularies.get(layer.name))
    for weight, value in values:  # nothing is changed before all are known to fit
        weight.assign(value)


def _vocabularies(earlier: FeatureMap, recipe: Recipe, feature_map: FeatureMap) -> dict[str, _Vocabularies]:
    """Return the values of each embedding table's rows, then and now, by the layer's name."""
    layers = {"embedding": recipe.fields} | {f"{name}_embedding": (name,) for name in recipe.multivalued}
    return {
        layer: [(earlier[name].index, feature_map[name].index) for name in names] for layer, names in layers.items()
    }


def _require_same_settings(layer: keras.layers.Layer, old: keras.layers.Layer) -> None:
    """Raise NoWarmStartError if settings differ; shapes do not show, for instance, whether attention is scaled."""
    own, others = ({"class": type(each).__name__, **each.get_config()} for each in (layer, old))
    for name, value in own.items():
        if name in _MAY_DIFFER or name.endswith(_INITIALIZER):
            continue
        now, then = (json.dumps(each, default=str, sort_keys=True) for each in (value, others.get(name)))
        if now != then:
            raise NoWarmStartError(f"{layer.name}'s {name} is {now}, in the earlier network {then}")


def _values_of(layer: keras.layers.Layer, old: keras.layers.Layer, vocabularies: _Vocabularies | None) -> _Values:
    """Return new values of the layer's weights. Raises NoWarmStartError."""
    if vocabularies is not None:  # a membership belongs to the present movies, and stays
        return [(layer.table, _by_value(layer, old, vocabularies))]
    values = [(weight, np.asarray(other)) for weight, other in zip(layer.weights, old.weights, strict=True)]
    for weight, value in values:
        if tuple(weight.shape) != value.shape:
            raise NoWarmStartError(f"{weight.path} is {tuple(weight.shape)}, in the earlier network {value.shape}")
    return _restandardized(layer, old) if isinstance(layer, NumericalEmbedding) else values


def _by_value(layer: keras.layers.Layer, old: keras.layers.Layer, vocabularies: _Vocabularies) -> np.ndarray:
    """Return the new layer's table [rows, width] with the earlier table's row for every value that both know."""
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


def _restandardized(layer: NumericalEmbedding, old: NumericalEmbedding) -> _Values:
    """Return weights that have the same effect with the layer's own centers and scales as the earlier ones with theirs.

    ``v (x - c) / s + w = v' (x - c') / s' + w'`` for every x if ``v' = v s' / s`` and ``w' = w + v (c' - c) / s``.
    """
    direction, offset = (np.asarray(weight, np.float64) for weight in (old.direction, old.offset))
    by_scale = direction / np.array(old.scales)[:, None]
    shift = np.array(layer.centres) - np.array(old.centres)
    values = (
        (layer.direction, by_scale * np.array(layer.scales)[:, None]),
        (layer.offset, offset + by_scale * shift[:, None]),
    )
    return [(weight, value.astype(np.float32)) for weight, value in values]
