"""Builders of AutoInt and AutoInt+MLP: field sizes and settings in, functional Keras model out.

Both take codes [batch, fields] int32 and give the probability of a like, [batch, 1] float32. The layer ``logit`` holds
its log-odds.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras

from ml.models.config import AutoIntConfig, AutoIntMLPConfig
from ml.models.layers import FieldEmbedding, InteractingLayer, derive_seeds

LOGIT_LAYER = "logit"
_OUTPUT_STDDEV = 1e-4  # of the kernels that lead to a logit


def build_autoint(field_dims: Sequence[int], config: AutoIntConfig, seed: int) -> keras.Model:
    """AutoInt: interacting layers over the embeddings, one logit.

    Args:
        field_dims: number of codes of each field.
        config: the settings.
        seed: every weight starts from it.
    """
    trunk_seed, logit_seed = derive_seeds(seed, 2)
    codes, embeddings = _embed(field_dims, config, trunk_seed)
    logit = _attention_logit(embeddings, config, logit_seed, name=LOGIT_LAYER)
    return keras.Model(codes, keras.layers.Activation("sigmoid", name="probability")(logit), name="autoint")


def build_autoint_mlp(field_dims: Sequence[int], config: AutoIntMLPConfig, seed: int) -> keras.Model:
    """AutoInt+MLP: AutoInt's logit plus that of a deep branch on the same embeddings; arguments as above."""
    trunk_seed, logit_seed, deep_seed = derive_seeds(seed, 3)
    codes, embeddings = _embed(field_dims, config, trunk_seed)
    attention = _attention_logit(embeddings, config, logit_seed, name="attention_logit")
    logit = keras.layers.Add(name=LOGIT_LAYER)([attention, _deep_logit(embeddings, config, deep_seed)])
    return keras.Model(codes, keras.layers.Activation("sigmoid", name="probability")(logit), name="autoint_mlp")


def build_model(name: str, field_dims: Sequence[int], config: AutoIntConfig, seed: int) -> keras.Model:
    """Build an architecture by its name in ``BUILDERS``. Raises ValueError for another name."""
    if name not in BUILDERS:
        raise ValueError(f"unknown architecture {name!r}; expected one of {', '.join(BUILDERS)}")
    return BUILDERS[name](field_dims, config, seed)


BUILDERS: Mapping[str, Callable[[Sequence[int], Any, int], keras.Model]] = {
    "autoint": build_autoint,
    "autoint_mlp": build_autoint_mlp,
}


def _embed(field_dims: Sequence[int], config: AutoIntConfig, seed: int | None) -> tuple[Any, Any]:
    codes = keras.Input((len(field_dims),), dtype="int32", name="codes")
    embedding = FieldEmbedding(field_dims, config.embed_dim, config.l2_embedding, seed, name="embedding")
    return codes, embedding(codes)  # [batch, fields, embed_dim]


def _attention_logit(embeddings: Any, config: AutoIntConfig, seed: int | None, name: str) -> Any:
    *layer_seeds, output_seed = derive_seeds(seed, config.num_layers + 1)
    hidden = embeddings
    for number, layer_seed in enumerate(layer_seeds, start=1):
        hidden = InteractingLayer(
            config.num_heads,
            config.head_dim,
            config.use_residual,
            config.scaled,
            layer_seed,
            name=f"interacting_{number}",
        )(hidden)  # [batch, fields, num_heads * head_dim]
    flat = keras.layers.Flatten(name="attention_flat")(hidden)
    initializer = keras.initializers.RandomNormal(stddev=_OUTPUT_STDDEV, seed=output_seed)
    return keras.layers.Dense(1, use_bias=False, kernel_initializer=initializer, name=name)(flat)


def _deep_logit(embeddings: Any, config: AutoIntMLPConfig, seed: int | None) -> Any:
    depth = len(config.hidden_units)
    seeds = derive_seeds(seed, 2 * depth + 1)
    kernel_seeds, dropout_seeds = seeds[: depth + 1], seeds[depth + 1 :]
    hidden = keras.layers.Flatten(name="deep_flat")(embeddings)

    def dense(units: int, kernel_seed: int | None, name: str) -> keras.layers.Dense:
        return keras.layers.Dense(
            units,
            kernel_initializer=keras.initializers.RandomNormal(stddev=_OUTPUT_STDDEV, seed=kernel_seed),
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
