"""Layers of the AutoInt family, on any Keras backend."""

import inspect
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ml.models.attention import NORMALIZATIONS, same_side

PACKAGE = "movie_recommender"
_KERNELS = ("query", "key", "value", "residual")


def derive_seeds(seed: int | None, count: int) -> list[int] | list[None]:
    """Derive distinct seeds from one, so that weights of equal shape start differently.

    The first seeds are the same for every count.
    """
    if seed is None:
        return [None] * count
    return [int(state) for state in np.random.SeedSequence(seed).generate_state(count)]


class ConfiguredLayer(keras.layers.Layer):
    """A layer that keeps each argument of its constructor in an attribute of the same name, and is saved with these."""

    def get_config(self) -> dict[str, Any]:
        _, *names, _ = inspect.signature(type(self).__init__).parameters  # without self and kwargs
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


@keras.saving.register_keras_serializable(package=PACKAGE)
class FieldEmbedding(ConfiguredLayer):
    """Embed all categorical features from one table.

    ``output[b, f] = table[indices[b, f] + offset[f]]``, where a feature's offset is the sum of the sizes before it.

    Args:
        field_dims: number of values of each feature.
        embed_dim: width of an embedding.
        l2: weight of the L2 penalty ``l2 * sum(table ** 2)`` in the loss.
        seed: of the Glorot-uniform initial values; the fans are the table's two sizes.

    Input:  [batch, features], integer indices from 0.
    Output: [batch, features, embed_dim].

    Example:
        >>> FieldEmbedding([3, 2], embed_dim=4)(np.array([[2, 1]])).shape
        TensorShape([1, 2, 4])
    """

    def __init__(
        self, field_dims: Sequence[int], embed_dim: int = 16, l2: float = 0.0, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not field_dims or min(field_dims) < 1:
            raise ValueError(f"field_dims must hold at least one positive size, got {field_dims!r}")
        self.field_dims = tuple(int(size) for size in field_dims)
        self.embed_dim = embed_dim
        self.l2 = l2
        self.seed = seed
        self.offsets = np.cumsum([0, *self.field_dims[:-1]], dtype=np.int32)  # [features]

    def build(self, input_shape: Sequence[int | None]) -> None:
        if input_shape[-1] != len(self.field_dims):
            raise ValueError(f"expected indices of {len(self.field_dims)} features, got input shape {input_shape!r}")
        self.table = self.add_weight(
            name="table",
            shape=(sum(self.field_dims), self.embed_dim),
            initializer=keras.initializers.GlorotUniform(seed=self.seed),
            regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
        )

    def call(self, indices: Any) -> Any:
        return ops.take(self.table, ops.cast(indices, "int32") + self.offsets, axis=0)  # [batch, features, embed_dim]


@keras.saving.register_keras_serializable(package=PACKAGE)
class InteractingLayer(ConfiguredLayer):
    """Multi-head self-attention over a row's features.

    Per head: ``softmax(Q K^T) V`` with ``Q, K, V = X W_query, X W_key, X W_value``; heads concatenated;
    ``ReLU(heads + X W_residual)``. Equations 5 to 8 of Song et al., "AutoInt", CIKM 2019.

    With all options on: ``Q, K, V = ReLU(X W_query), ReLU(X W_key), ReLU(X W_value)``, per head
    ``dropout(entmax(Q K^T / sqrt(head_dim))) V``, and ``LayerNorm(ReLU(heads + X W_residual))``. With sides, a
    feature's weights of features of other sides are 0.

    Args:
        num_heads: number of heads H.
        head_dim: width of one head; head h uses columns ``h * head_dim`` to ``(h + 1) * head_dim - 1`` of each kernel.
        use_residual: add ``X W_residual``.
        scaled: divide the scores by ``sqrt(head_dim)``.
        seed: of the truncated normal initial values (sd 0.05) and the dropout; each kernel's is derived from it.
        projection_relu: apply a ReLU to queries, keys and values.
        attention_dropout: share of the attention weights that are dropped during training.
        layer_norm: normalize each feature's output to mean 0 and variance 1, then scale and shift it by trained
            weights.
        attention: how scores become weights: softmax, or entmax, see ``ml.models.attention``.
        sides: of each feature, such as user or movie; a feature attends to those of its own side only. Empty: to all.

    Input:  [batch, features, width].
    Output: [batch, features, num_heads * head_dim].

    Example:
        >>> InteractingLayer(num_heads=2, head_dim=16)(np.zeros((1, 14, 16))).shape
        TensorShape([1, 14, 32])
    """

    def __init__(
        self,
        num_heads: int = 2,
        head_dim: int = 16,
        use_residual: bool = True,
        scaled: bool = False,
        seed: int | None = None,
        projection_relu: bool = False,
        attention_dropout: float = 0.0,
        layer_norm: bool = False,
        attention: str = "softmax",
        sides: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if attention not in NORMALIZATIONS:
            raise ValueError(f"attention must be one of {', '.join(NORMALIZATIONS)}, got {attention!r}")
        self.num_heads = num_heads
        self.head_dim = head_dim
        self.use_residual = use_residual
        self.scaled = scaled
        self.seed = seed
        self.projection_relu = projection_relu
        self.attention_dropout = attention_dropout
        self.layer_norm = layer_norm
        self.attention = attention
        self.sides = tuple(map(str, sides))
        # Without these options there are no such sublayers, so that older files of networks stay readable.
        if attention_dropout:
            *_, dropout_seed = derive_seeds(seed, len(_KERNELS) + 1)
            self.dropout = keras.layers.Dropout(attention_dropout, seed=dropout_seed, dtype=self.dtype_policy)
        if layer_norm:
            self.norm = keras.layers.LayerNormalization(dtype=self.dtype_policy)

    def build(self, input_shape: Sequence[int | None]) -> None:
        if len(input_shape) != 3:
            raise ValueError(f"expected an input of shape [batch, features, width], got {input_shape!r}")
        if self.sides and len(self.sides) != input_shape[1]:
            raise ValueError(f"expected {len(self.sides)} features, one for each side, got {input_shape!r}")
        names = _KERNELS if self.use_residual else _KERNELS[:-1]
        for name, seed in zip(names, derive_seeds(self.seed, len(names)), strict=True):
            kernel = self.add_weight(
                name=name,
                shape=(input_shape[-1], self.num_heads * self.head_dim),
                initializer=keras.initializers.TruncatedNormal(stddev=0.05, seed=seed),
            )
            setattr(self, f"{name}_kernel", kernel)
        if self.layer_norm:
            self.norm.build(self.compute_output_shape(input_shape))

    def attention_weights(self, inputs: Any) -> Any:
        """Return how much each feature attends to each, without dropout.

        Args:
            inputs: [batch, features, width].

        Returns:
            [batch, heads, features, features]; the sum over the last axis is 1.
        """
        query = self._project(inputs, self.query_kernel)  # [batch, features, heads, head_dim]
        key = self._project(inputs, self.key_kernel)
        scores = ops.einsum("bqhd,bkhd->bhqk", query, key)
        if self.scaled:
            scores = scores / self.head_dim**0.5
        if self.sides:
            scores = ops.where(same_side(self.sides), scores, -np.inf)
        return NORMALIZATIONS[self.attention](scores)

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        weights = self.attention_weights(inputs)
        value = self._project(inputs, self.value_kernel)
        if self.attention_dropout:
            weights = self.dropout(weights, training=training)
        heads = ops.einsum("bhqk,bkhd->bqhd", weights, value)  # [batch, features, heads, head_dim]
        output = ops.reshape(heads, (-1, inputs.shape[1], self.num_heads * self.head_dim))
        if self.use_residual:
            output = output + ops.matmul(inputs, self.residual_kernel)
        output = ops.relu(output)
        return self.norm(output) if self.layer_norm else output

    def _project(self, inputs: Any, kernel: Any) -> Any:
        projected = ops.matmul(inputs, kernel)
        if self.projection_relu:
            projected = ops.relu(projected)
        return ops.reshape(projected, (-1, projected.shape[1], self.num_heads, self.head_dim))

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return (*input_shape[:-1], self.num_heads * self.head_dim)
