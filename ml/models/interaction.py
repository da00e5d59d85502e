"""The compressed interaction network of xDeepFM, on any Keras backend."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import keras
from keras import ops

from ml.models.layers import PACKAGE, ConfiguredLayer, derive_seeds


@keras.saving.register_keras_serializable(package=PACKAGE)
class CompressedInteraction(ConfiguredLayer):
    """Explicit interactions of a row's features, one order higher with each layer of the network.

    Layer k makes feature maps ``X_k[m] = sum over h, f of kernel_k[h, f, m] * X_(k-1)[h] * X_0[f]``: products by
    element of the previous layer's maps and the input, X_0. The output is the sum of each map over its width.
    Equations 6 and 8 of Lian et al., "xDeepFM", KDD 2018; as there, maps have no activation.

    Args:
        feature_maps: number of maps of each layer.
        l2: weight of the L2 penalty ``l2 * sum(kernel ** 2)`` of each kernel in the loss.
        seed: of the Glorot-uniform initial values; each kernel's is derived from it, and the fans are the numbers of
            products and maps.

    Input:  [batch, features, width].
    Output: [batch, sum of feature_maps], the first layer's maps first.

    Example:
        >>> CompressedInteraction([8, 4])(np.zeros((1, 14, 16))).shape
        TensorShape([1, 12])
    """

    def __init__(
        self, feature_maps: Sequence[int] = (16, 16), l2: float = 0.0, seed: int | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not feature_maps or min(feature_maps) < 1:
            raise ValueError(f"feature_maps must hold at least one positive number, got {feature_maps!r}")
        self.feature_maps = tuple(int(maps) for maps in feature_maps)
        self.l2 = l2
        self.seed = seed

    def build(self, input_shape: Sequence[int | None]) -> None:
        features = input_shape[1] if len(input_shape) == 3 else None
        if features is None:
            raise ValueError(f"expected an input of shape [batch, features, width], got {input_shape!r}")
        sizes = (features, *self.feature_maps)
        seeds = derive_seeds(self.seed, len(self.feature_maps))
        self.kernels = [
            self.add_weight(
                name=f"kernel_{number}",
                shape=(before * features, maps),  # row h * features + f is for the product of map h and feature f
                initializer=keras.initializers.GlorotUniform(seed=seed),
                regularizer=keras.regularizers.L2(self.l2) if self.l2 else None,
            )
            for number, ((before, maps), seed) in enumerate(zip(pairwise(sizes), seeds, strict=True), start=1)
        ]

    def call(self, inputs: Any) -> Any:
        _, features, width = inputs.shape
        first = hidden = ops.transpose(inputs, (0, 2, 1))  # [batch, width, features]
        pooled = []
        for kernel in self.kernels:
            products = ops.expand_dims(hidden, 3) * ops.expand_dims(first, 2)  # [batch, width, maps before, features]
            # As one matrix product: one per row would be many times as slow.
            maps = ops.matmul(ops.reshape(products, (-1, hidden.shape[2] * features)), kernel)
            hidden = ops.reshape(maps, (-1, width, kernel.shape[1]))  # [batch, width, maps]
            pooled.append(ops.sum(hidden, axis=1))
        return ops.concatenate(pooled, axis=1)

    def compute_output_shape(self, input_shape: Sequence[int | None]) -> tuple[int | None, ...]:
        return (input_shape[0], sum(self.feature_maps))
