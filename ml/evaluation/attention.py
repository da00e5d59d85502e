"""Average how much a network's features attend to each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ml.models.layers import InteractingLayer

_BATCH = 512  # rows at a time
_DIGITS = 4  # of a weight in a document


@dataclass(frozen=True)
class AttentionMaps:
    """Mean attention weights of some rows.

    Attributes:
        features: names of the embedded features.
        weights: float64 [layers, heads, features, features]: how much the third axis's feature attends to the fourth's.
            The sum over the last axis is 1.
    """

    features: tuple[str, ...]
    weights: np.ndarray

    @classmethod
    def of(cls, network: keras.Model, features: Sequence[str], inputs: Sequence[np.ndarray]) -> "AttentionMaps | None":
        """Compute the maps of a network's interacting layers, without dropout.

        Args:
            network: made by ``ml.models.autoint``, or another architecture.
            features: names of the embedded features in the network's order.
            inputs: of the network, arrays of at least one row: indices, and numeric features if it takes them.

        Returns:
            The maps; None for a network that has no interacting layers, or some with other inputs than these features
            or with other numbers of heads, as an architecture of your own may.
        """
        layers = [layer for layer in network.layers if isinstance(layer, InteractingLayer)]
        sizes = {(layer.input.shape[1], layer.num_heads) for layer in layers}
        if len(sizes) != 1 or sizes.pop()[0] != len(features):
            return None
        front = keras.Model(network.inputs, [layer.input for layer in layers])
        rows, total = len(inputs[0]), np.zeros(())
        for start in range(0, rows, _BATCH):
            hidden = front([each[start : start + _BATCH] for each in inputs], training=False)
            maps = [
                keras.ops.convert_to_numpy(layer.attention_weights(each)).sum(axis=0, dtype=np.float64)
                for layer, each in zip(layers, hidden if isinstance(hidden, list) else [hidden], strict=True)
            ]
            total = total + np.stack(maps)
        return cls(tuple(features), total / rows)

    def to_dict(self) -> dict[str, Any]:
        """Return a document for ``from_dict``, with rounded weights."""
        return {"features": list(self.features), "weights": self.weights.round(_DIGITS).tolist()}

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> "AttentionMaps":
        """Read what ``to_dict`` returned."""
        return cls(tuple(document["features"]), np.array(document["weights"], np.float64))
