"""Build AutoInt, AutoInt+MLP, AutoInt+CIN and multi-task AutoInt as functional Keras models.

A network takes indices int32 [batch, features], and numeric features float32 [batch, numeric features] if there are
any, and returns the probability of a like, float32 [batch, 1]. The layer ``logit`` has its log-odds. The multi-task
network returns a list of two: the probability, and the predicted rating, float32 [batch, 1].
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ml.features.collaborative_tables import CollaborativeTables
from ml.models.config import (
    ARCHITECTURES,
    ArchitectureConfig,
    AutoIntCINConfig,
    AutoIntConfig,
    AutoIntMLPConfig,
    AutoIntMultitaskConfig,
)
from ml.models.interaction import CompressedInteraction
from ml.models.layers import FieldEmbedding, InteractingLayer, derive_seeds
from ml.models.multivalued import MultivaluedEmbedding
from ml.models.numerical import NumericalEmbedding, PairProducts, SelectFields

LOGIT_LAYER, RATING_LAYER = "logit", "rating"
_OUTPUT_STDDEV = 1e-4  # of the kernels of the output layers


@dataclass(frozen=True)
class Multivalued:
    """A multi-valued feature, such as a movie's genres.

    Attributes:
        name: of the feature.
        position: in a row, of the index of the item that has the values.
        membership: float32 [items, values], see ``ml.features.membership``.
    """

    name: str
    position: int
    membership: np.ndarray


@dataclass(frozen=True)
class Token:
    """An embedded feature, as the interacting layers see it.

    Attributes:
        name: of the feature.
        side: what it belongs to: user, movie or context (time of the rating); pair, if it depends on several.
    """

    name: str
    side: str


@dataclass(frozen=True)
class Inputs:
    """Inputs of a network.

    Attributes:
        field_dims: number of values of each categorical feature.
        positions: of the categorical features that are embedded; None for all.
        centres: of each numeric feature, the value to subtract; empty without numeric features.
        scales: of each numeric feature, the value to divide by.
        multivalued: multi-valued features that are embedded too.
        rating_centre: mean of the ratings that a multi-task network learns from.
        rating_scale: their standard deviation, positive.
        tokens: all embedded features in the network's order: categorical, multi-valued, numeric ones. A network with
            local layers needs them.
    """

    field_dims: Sequence[int]
    positions: Sequence[int] | None = None
    centres: Sequence[float] = ()
    scales: Sequence[float] = ()
    multivalued: tuple[Multivalued, ...] = ()
    rating_centre: float = 0.0
    rating_scale: float = 1.0
    tokens: tuple[Token, ...] = ()


def build_autoint(inputs: Inputs, config: AutoIntConfig, seed: int) -> keras.Model:
    """Build AutoInt: interacting layers over the embeddings, one logit.

    Args:
        inputs: of the network.
        config: the settings.
        seed: of all first weights.
    """
    trunk_seed, logit_seed = derive_seeds(seed, 2)
    given, embeddings = _embed(inputs, config, trunk_seed)
    logit = _attention_logit(embeddings, inputs, config, logit_seed, name=LOGIT_LAYER)
    return keras.Model(given, _probability(logit), name="autoint")


def build_autoint_mlp(inputs: Inputs, config: AutoIntMLPConfig, seed: int) -> keras.Model:
    """Build AutoInt+MLP: AutoInt's logit plus that of a deep branch on the same embeddings; arguments as above."""
    trunk_seed, logit_seed, deep_seed = derive_seeds(seed, 3)
    given, embeddings = _embed(inputs, config, trunk_seed)
    attention = _attention_logit(embeddings, inputs, config, logit_seed, name="attention_logit")
    logit = keras.layers.Add(name=LOGIT_LAYER)([attention, _deep_logit(embeddings, config, deep_seed)])
    return keras.Model(given, _probability(logit), name="autoint_mlp")


def build_autoint_multitask(inputs: Inputs, config: AutoIntMultitaskConfig, seed: int) -> keras.Model:
    """Build AutoInt with a second output, the rating, linear in the last interacting layer; arguments as above."""
    trunk_seed, logit_seed, rating_seed = derive_seeds(seed, 3)
    given, embeddings = _embed(inputs, config, trunk_seed)
    *layer_seeds, output_seed = derive_seeds(logit_seed, config.num_layers + 1)
    shared = _attended(embeddings, inputs, config, layer_seeds)
    logit = _output(shared, output_seed, LOGIT_LAYER)
    standardized = _output(shared, rating_seed, "standardized_rating")
    rating = keras.layers.Rescaling(inputs.rating_scale, inputs.rating_centre, name=RATING_LAYER)(standardized)
    return keras.Model(given, [_probability(logit), rating], name="autoint_multitask")


def build_autoint_cin(inputs: Inputs, config: AutoIntCINConfig, seed: int) -> keras.Model:
    """Build AutoInt+CIN: AutoInt's logit plus that of a compressed interaction network on the same embeddings."""
    trunk_seed, logit_seed, interaction_seed = derive_seeds(seed, 3)
    given, embeddings = _embed(inputs, config, trunk_seed)
    attention = _attention_logit(embeddings, inputs, config, logit_seed, name="attention_logit")
    interaction = _interaction_logit(embeddings, config, interaction_seed)
    logit = keras.layers.Add(name=LOGIT_LAYER)([attention, interaction])
    return keras.Model(given, _probability(logit), name="autoint_cin")


# Each architecture of the family has its builder in this module; a missing one is an error at import.
_BUILDERS: Mapping[str, Callable[[Inputs, Any, int], keras.Model]] = {
    name: globals()[f"build_{name}"] for name, kind in ARCHITECTURES.items() if issubclass(kind, AutoIntConfig)
}


def build_model(architecture: str, inputs: Inputs, config: ArchitectureConfig, seed: int) -> keras.Model:
    """Build a network of AutoInt's family by the name of its architecture. Raises ValueError for an unknown name."""
    if architecture not in _BUILDERS:
        raise ValueError(f"unknown architecture {architecture!r}; expected one of {', '.join(_BUILDERS)}")
    return _BUILDERS[architecture](inputs, config, seed)


def with_collaborative(network: keras.Model, tables: CollaborativeTables, positions: tuple[int, int]) -> keras.Model:
    """Return a network that takes indices only and computes the collaborative features from tables inside it.

    Args:
        network: takes indices and collaborative features.
        tables: of the collaborative features.
        positions: of the user's and the movie's index in a row.
    """
    codes = keras.Input(network.inputs[0].shape[1:], dtype="int32", name="codes")
    sizes = (len(tables.users), len(tables.movies))
    products = PairProducts(positions, sizes, tables.widths, name="signals")
    whole = keras.Model(codes, network([codes, products(codes)]), name=f"{network.name}_with_signals")
    products.left.assign(tables.users)
    products.right.assign(tables.movies)
    return whole


def like_network(network: keras.Model) -> keras.Model:
    """Return the part of a network that computes the probability of a like; shares its layers and weights."""
    return network if len(network.outputs) == 1 else keras.Model(network.input, network.outputs[0], name=network.name)


def rating_network(network: keras.Model) -> keras.Model | None:
    """Return the part of a multi-task network that predicts the rating; None for any other network."""
    return keras.Model(network.input, network.outputs[1], name=network.name) if len(network.outputs) > 1 else None


def inner_network(network: keras.Model) -> keras.Model:
    """Return the network inside one made by ``with_collaborative``; any other network as it is."""
    nested = [layer for layer in network.layers if isinstance(layer, keras.Model)]
    made = len(nested) == 1 and sum(isinstance(layer, PairProducts) for layer in network.layers) == 1
    return nested[0] if made and len(network.layers) == 3 else network


def _embed(inputs: Inputs, config: AutoIntConfig, seed: int | None) -> tuple[Any, Any]:
    """Return the network's inputs, and the embeddings of all its features [batch, features, embed_dim]."""
    _, numerical_seed, dropout_seed, *multivalued_seeds = derive_seeds(seed, 3 + len(inputs.multivalued))
    codes = keras.Input((len(inputs.field_dims),), dtype="int32", name="codes")
    given, selected, sizes = codes, codes, list(inputs.field_dims)
    if inputs.positions is not None:
        selected = SelectFields(inputs.positions, name="fields")(codes)
        sizes = [inputs.field_dims[position] for position in inputs.positions]
    tokens = [FieldEmbedding(sizes, config.embed_dim, config.l2_embedding, seed, name="embedding")(selected)]
    for field, field_seed in zip(inputs.multivalued, multivalued_seeds, strict=True):
        tokens.append(_embed_multivalued(codes, field, inputs.field_dims, config.embed_dim, field_seed))
    if inputs.centres:
        signals = keras.Input((len(inputs.centres),), name="signals")
        numerical = NumericalEmbedding(inputs.centres, inputs.scales, config.embed_dim, numerical_seed, name="numbers")
        tokens.append(numerical(signals))
        given = [codes, signals]
    embeddings = keras.layers.Concatenate(axis=1, name="tokens")(tokens) if len(tokens) > 1 else tokens[0]
    if config.embedding_dropout:
        dropout = keras.layers.Dropout(config.embedding_dropout, seed=dropout_seed, name="embedding_dropout")
        embeddings = dropout(embeddings)
    return given, embeddings


def _embed_multivalued(
    codes: Any, field: Multivalued, field_dims: Sequence[int], embed_dim: int, seed: int | None
) -> Any:
    """Embed a multi-valued feature, [batch, 1, embed_dim]."""
    items, values = field.membership.shape
    if not 0 <= field.position < len(field_dims) or items != field_dims[field.position]:
        raise ValueError(
            f"{field.name}: expected a membership row for each value of the feature at position {field.position}, got "
            f"{items} rows for features of sizes {tuple(field_dims)}"
        )
    layer = MultivaluedEmbedding(field.position, (items, values), embed_dim, seed, name=f"{field.name}_embedding")
    embedding = layer(codes)
    layer.membership.assign(field.membership)
    return embedding


def _attended(embeddings: Any, inputs: Inputs, config: AutoIntConfig, seeds: Sequence[int | None]) -> Any:
    """Return the flat output of the interacting layers, [batch, features * num_heads * head_dim]; one seed a layer."""
    if config.local_layers and not inputs.tokens:
        raise ValueError(f"local_layers is {config.local_layers}, and the inputs name no tokens, whose sides it needs")
    sides = [token.side for token in inputs.tokens]
    hidden = embeddings
    for number, layer_seed in enumerate(seeds, start=1):
        hidden = InteractingLayer(
            num_heads=config.num_heads,
            head_dim=config.head_dim,
            use_residual=config.use_residual,
            scaled=config.scaled,
            seed=layer_seed,
            projection_relu=config.projection_relu,
            attention_dropout=config.attention_dropout,
            layer_norm=config.layer_norm,
            attention=config.attention,
            sides=sides if number <= config.local_layers else (),
            name=f"interacting_{number}",
        )(hidden)  # [batch, features, num_heads * head_dim]
    return keras.layers.Flatten(name="attention_flat")(hidden)


def _attention_logit(embeddings: Any, inputs: Inputs, config: AutoIntConfig, seed: int | None, name: str) -> Any:
    *layer_seeds, output_seed = derive_seeds(seed, config.num_layers + 1)
    return _output(_attended(embeddings, inputs, config, layer_seeds), output_seed, name)


def _output(hidden: Any, seed: int | None, name: str) -> Any:
    initializer = keras.initializers.RandomNormal(stddev=_OUTPUT_STDDEV, seed=seed)
    return keras.layers.Dense(1, use_bias=False, kernel_initializer=initializer, name=name)(hidden)


def _probability(logit: Any) -> Any:
    return keras.layers.Activation("sigmoid", name="probability")(logit)


def _deep_logit(embeddings: Any, config: AutoIntMLPConfig, seed: int | None) -> Any:
    depth = len(config.hidden_units)
    seeds = derive_seeds(seed, 2 * depth + 1)
    kernel_seeds, dropout_seeds = seeds[: depth + 1], seeds[depth + 1 :]
    hidden = keras.layers.Flatten(name="deep_flat")(embeddings)

    def dense(units: int, kernel_seed: int | None, name: str) -> keras.layers.Dense:
        small = keras.initializers.RandomNormal(stddev=_OUTPUT_STDDEV, seed=kernel_seed)
        glorot = keras.initializers.GlorotUniform(seed=kernel_seed)
        return keras.layers.Dense(
            units,
            kernel_initializer=glorot if config.deep_start == "glorot" else small,
            kernel_regularizer=keras.regularizers.L2(config.l2_deep) if config.l2_deep else None,
            name=name,
        )

    for number, units in enumerate(config.hidden_units, start=1):
        hidden = dense(units, kernel_seeds[number - 1], f"deep_{number}")(hidden)
        if config.batch_normalization:
            hidden = keras.layers.BatchNormalization(name=f"deep_norm_{number}")(hidden)
        hidden = keras.layers.ReLU(name=f"deep_relu_{number}")(hidden)
        hidden = keras.layers.Dropout(config.dropout, seed=dropout_seeds[number - 1], name=f"dropout_{number}")(hidden)
    return dense(1, kernel_seeds[depth], "deep_logit")(hidden)


def _interaction_logit(embeddings: Any, config: AutoIntCINConfig, seed: int | None) -> Any:
    seed, output_seed = derive_seeds(seed, 2)
    pooled = CompressedInteraction(config.feature_maps, config.l2_interaction, seed, name="interaction")(embeddings)
    initializer = keras.initializers.RandomNormal(stddev=_OUTPUT_STDDEV, seed=output_seed)
    return keras.layers.Dense(1, kernel_initializer=initializer, name="interaction_logit")(pooled)


def embedded_positions(network: keras.Model) -> Any:
    """Return what selects the embedded features from a row's indices.

    A network with a selection must read no other categorical feature: a bundle holds no values of the others.
    """
    selections = [layer.positions for layer in network.layers if isinstance(layer, SelectFields)]
    return list(selections[0]) if selections else slice(None)
