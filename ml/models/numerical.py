"""Layers for numeric features, for a selection of features, and for products of two tables' rows."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from ml.models.layers import PACKAGE, ConfiguredLayer, derive_seeds


@keras.saving.register_keras_serializable(package=PACKAGE)
class NumericalEmbedding(ConfiguredLayer):
    """Embed numeric features: ``output[b, s] = v[s] * (input[b, s] - centre[s]) / scale[s] + w[s]``.

    Section 4.3 of Song et al., "AutoInt", CIKM 2019 (``v_m x_m``), with standardized features and an offset,
    without which a feature at its center would have no embedding.

    Args:
        centres: of each feature, usually its mean.
        scales: of each feature, usually its standard deviation; positive.
        embed_dim: width of an embedding.
        seed: of the normal initial values of v and w (sd 0.1).

    Input:  [batch, features], float.
    Output: [batch, features, embed_dim].

    Example:
        >>> NumericalEmbedding([0.0], [1.0], embed_dim=4)(np.array([[2.0]])).shape
        TensorShape([1, 1, 4])
    """

    def __init__(
        self,
        centres: Sequence[float],
        scales: Sequence[float],
        embed_dim: int = 16,
        seed: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not centres or len(centres) != len(scales):
            raise ValueError(f"expected as many scales as centres and at least one, got {centres!r} and {scales!r}")
        if min(scales) <= 0:
            raise ValueError(f"scales must be positive, got {scales!r}")
        self.centres = tuple(map(float, centres))
        self.scales = tuple(map(float, scales))
        self.embed_dim = embed_dim
        self.seed = seed

    def build(self, input_shape: Sequence[int | None]) -> None:
        if len(input_shape) != 2 or input_shape[1] != len(self.centres):
            raise ValueError(f"expected [batch, {len(self.centres)}] numeric features, got input shape {input_shape!r}")
        for name, seed in zip(("direction", "offset"), derive_seeds(self.seed, 2), strict=True):
            initializer = keras.initializers.RandomNormal(stddev=0.1, seed=seed)
            weight = self.add_weight(name=name, shape=(len(self.centres), self.embed_dim), initializer=initializer)
            setattr(self, name, weight)

    def call(self, numbers: Any) -> Any:
        standardized = (numbers - np.array(self.centres, np.float32)) / np.array(self.scales, np.float32)
        return ops.expand_dims(standardized, -1) * self.direction + self.offset  # [batch, features, embed_dim]

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return (*input_shape, self.embed_dim)


@keras.saving.register_keras_serializable(package=PACKAGE)
class SelectFields(ConfiguredLayer):
    """Select some of a row's features: ``output[b, i] = input[b, positions[i]]``.

    Args:
        positions: of the selected features, distinct.
    """

    def __init__(self, positions: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if not positions or min(positions) < 0 or len(set(positions)) != len(positions):
            raise ValueError(f"positions must be distinct and from 0, at least one, got {positions!r}")
        self.positions = tuple(map(int, positions))

    def call(self, indices: Any) -> Any:
        return ops.take(indices, np.array(self.positions, np.int32), axis=1)


@keras.saving.register_keras_serializable(package=PACKAGE)
class PairProducts(ConfiguredLayer):
    """Inner products of two indices' table rows, one for each group of columns; the tables are not trained.

    ``output[b, s] = sum over the columns of group s of left[indices[b, l]] * right[indices[b, r]]``

    Args:
        positions: of the left and the right index in a row, l and r.
        sizes: rows of the left and of the right table.
        widths: number of columns of each group; the groups are adjacent in both tables.

    Input:  [batch, features], integer indices from 0.
    Output: [batch, groups].
    """

    def __init__(
        self, positions: tuple[int, int], sizes: tuple[int, int], widths: Sequence[int], **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if len(positions) != 2 or len(sizes) != 2 or min(positions) < 0 or min(sizes) < 1:
            raise ValueError(f"expected two positions from 0 and two positive sizes, got {positions!r} and {sizes!r}")
        if not widths or min(widths) < 1:
            raise ValueError(f"widths must hold at least one positive width, got {widths!r}")
        self.positions = tuple(map(int, positions))
        self.sizes = tuple(map(int, sizes))
        self.widths = tuple(map(int, widths))

    def build(self, input_shape: Sequence[int | None]) -> None:
        columns = sum(self.widths)
        left, right = self.sizes
        self.left = self.add_weight(name="left", shape=(left, columns), initializer="zeros", trainable=False)
        self.right = self.add_weight(name="right", shape=(right, columns), initializer="zeros", trainable=False)

    def call(self, indices: Any) -> Any:
        indices = ops.cast(indices, "int32")
        left, right = (indices[:, position] for position in self.positions)
        products = ops.take(self.left, left, axis=0) * ops.take(self.right, right, axis=0)  # [batch, columns]
        groups = np.repeat(np.eye(len(self.widths), dtype=np.float32), self.widths, axis=0)  # [columns, groups]
        return ops.matmul(products, groups)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return (input_shape[0], len(self.widths))
