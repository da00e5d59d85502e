"""A layer for multi-valued features."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from ml.models.layers import PACKAGE, ConfiguredLayer


@keras.saving.register_keras_serializable(package=PACKAGE)
class MultivaluedEmbedding(ConfiguredLayer):
    """Embed one multi-valued feature, such as a movie's genres, as the mean of its values' embeddings.

    ``output[b, 0] = membership[indices[b, position]] @ table``, where an item's membership row has ``1 / q`` for each
    of its q values and 0 elsewhere. Section 4.3 of Song et al., "AutoInt", CIKM 2019 (``1/q V x``).

    The membership is not trained. Until it is assigned, it is zero, and the embedding too.

    Args:
        position: of the item's index in a row.
        shape: number of items and of distinct values.
        embed_dim: width of an embedding.
        seed: of the table's Glorot-uniform initial values; the fans are its two sizes.

    Input:  [batch, features], integer indices from 0.
    Output: [batch, 1, embed_dim].

    Example:
        >>> MultivaluedEmbedding(position=1, shape=(5, 3), embed_dim=4)(np.array([[2, 1]])).shape
        TensorShape([1, 1, 4])
    """

    def __init__(
        self, position: int, shape: tuple[int, int], embed_dim: int = 16, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if position < 0:
            raise ValueError(f"position must not be negative, got {position!r}")
        if len(shape) != 2 or min(shape) < 1:
            raise ValueError(f"shape must be two positive sizes, got {shape!r}")
        self.position = int(position)
        self.shape = tuple(map(int, shape))
        self.embed_dim = embed_dim
        self.seed = seed

    def build(self, input_shape: Sequence[int | None]) -> None:
        features = input_shape[-1]
        if len(input_shape) != 2 or features is None or features <= self.position:
            raise ValueError(f"expected [batch, more than {self.position}] indices, got input shape {input_shape!r}")
        self.table = self.add_weight(
            name="table",
            shape=(self.shape[1], self.embed_dim),
            initializer=keras.initializers.GlorotUniform(seed=self.seed),
        )
        self.membership = self.add_weight(name="membership", shape=self.shape, initializer="zeros", trainable=False)

    def call(self, indices: Any) -> Any:
        shares = ops.take(self.membership, ops.cast(indices[:, self.position], "int32"), axis=0)  # [batch, values]
        return ops.expand_dims(ops.matmul(shares, self.table), 1)  # [batch, 1, embed_dim]

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return (input_shape[0], 1, self.embed_dim)
