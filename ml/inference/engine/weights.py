"""A network's weights in the form that the scorer computes with."""

import keras
import numpy as np

from ml.inference.engine import kernels
from ml.inference.engine.pair_numbers import PairNumbers
from ml.models.autoint import inner_network
from ml.models.layers import InteractingLayer
from ml.models.numerical import NumericalEmbedding

ATTENTION_LOGIT = "attention_logit"  # name of the layer in a network with a branch beside the interacting layers
_BLOCK = 32  # rows; with 14 fields embedded by 16 numbers and 16 maps, their products are 460 kB
_LOG2E = np.float32(np.log2(np.e))


class Numbers:
    """The collaborative features of a network, standardized, and the first layer's projections of their embeddings.

    Attributes:
        count: how many there are; 0 for a network without them.
        slopes, offsets: of the first layer's projections as a function of each number, [heads, count, 4 * head_dim].
    """

    def __init__(self, network: keras.Model, first: list[np.ndarray]) -> None:
        inner = inner_network(network)
        self._pairs = PairNumbers(network)
        self.count = self._pairs.count
        self.slopes = self.offsets = np.empty((len(first), 0, first[0].shape[1]), np.float32)
        if inner is network:
            return
        [embedding] = [layer for layer in inner.layers if isinstance(layer, NumericalEmbedding)]
        self._centres, self._scales = (np.array(each, np.float32) for each in (embedding.centres, embedding.scales))
        self.slopes = np.stack([np.asarray(embedding.direction) @ kernel for kernel in first])
        self.offsets = np.stack([np.asarray(embedding.offset) @ kernel for kernel in first])

    def of(self, indices: np.ndarray) -> np.ndarray:
        """Standardized features, float32 [rows, count], of indices int32 [rows, fields]."""
        if not self.count:
            return np.empty((len(indices), 0), np.float32)
        return (self._pairs.of(indices) - self._centres) / self._scales


class DeepBranch:
    """The deep branch. Its first layer is a sum over fields, so its parts are computed once per index."""

    def __init__(self, network: keras.Model, table: np.ndarray) -> None:
        names = [layer.name for layer in network.layers if isinstance(layer, keras.layers.Dense)]
        hidden = [name for name in names if name.startswith("deep_") and name != "deep_logit"]
        (kernel, bias), *self._hidden = [_affine(network, name) for name in hidden]
        embedding = network.get_layer("embedding")
        by_field = kernel.reshape(len(embedding.field_dims), embedding.embed_dim, -1)
        parts = np.split(table, embedding.offsets[1:])
        self._first_table = np.concatenate([part @ field for part, field in zip(parts, by_field, strict=True)])
        self._first_bias = bias
        self._output = _affine(network, "deep_logit")

    def first(self, rows: np.ndarray) -> np.ndarray:
        """The first layer's sum [n, units] over all or some fields, without bias, of table rows [n, fields]."""
        out = np.empty((len(rows), len(self._first_bias)), np.float32)
        kernels.gather_sum(rows, self._first_table, out)
        return out

    def logits(self, first: np.ndarray) -> np.ndarray:
        """Logits [n] of the first layer's sums [n, units]."""
        hidden = np.maximum(first + self._first_bias, 0)
        for kernel, bias in self._hidden:
            hidden = np.maximum(hidden @ kernel + bias, 0)
        kernel, bias = self._output
        return (hidden @ kernel + bias)[:, 0]


class InteractionBranch:
    """The compressed interaction network, computed for few rows at a time, whose products fit a level-2 cache."""

    def __init__(self, network: keras.Model, table: np.ndarray) -> None:
        self._table = table
        self._kernels = [np.asarray(kernel) for kernel in network.get_layer("interaction").kernels]
        self._output = _affine(network, "interaction_logit")

    def first(self, rows: np.ndarray) -> np.ndarray:
        """Embeddings [n, embed_dim, fields] of table rows [n, fields]."""
        return np.ascontiguousarray(self._table[rows].transpose(0, 2, 1))

    def logits(self, first: np.ndarray) -> np.ndarray:
        """Logits [n] of embeddings [n, embed_dim, fields]."""
        blocks = range(0, len(first), _BLOCK)
        return np.concatenate([self._of_block(first[start : start + _BLOCK]) for start in blocks])

    def _of_block(self, first: np.ndarray) -> np.ndarray:
        rows, embed_dim, _ = first.shape
        hidden, pooled = first, []
        for kernel in self._kernels:
            products = hidden[:, :, :, None] * first[:, :, None]  # [n, embed_dim, maps before, fields]
            hidden = (products.reshape(-1, len(kernel)) @ kernel).reshape(rows, embed_dim, -1)
            pooled.append(hidden.sum(axis=1))
        kernel, bias = self._output
        return (np.concatenate(pooled, axis=1) @ kernel + bias)[:, 0]


def branch_of(network: keras.Model, table: np.ndarray) -> DeepBranch | InteractionBranch | None:
    """The branch beside a network's interacting layers; None for a network without one.

    Args:
        network: of the branch.
        table: embeddings [indices of the embedded fields, embed_dim].
    """
    names = {layer.name for layer in network.layers}
    branches = (("deep_logit", DeepBranch), ("interaction_logit", InteractionBranch))
    return next((branch(network, table) for logit, branch in branches if logit in names), None)


def has_branch(network: keras.Model) -> bool:
    """Whether a network has a branch beside its interacting layers."""
    return any(layer.name == ATTENTION_LOGIT for layer in network.layers)


def projections(layer: InteractingLayer) -> list[np.ndarray]:
    """Each head's four kernels side by side, [input width, 4 * head_dim]; zeros where there is no residual.

    The query kernel includes the scale of the scores, and the factor log2 e for the softmax to base 2.
    """
    factor = _LOG2E * np.float32(layer.head_dim**-0.5 if layer.scaled else 1)
    kernels_ = [np.asarray(kernel) for kernel in (layer.query_kernel, layer.key_kernel, layer.value_kernel)]
    kernels_[0] = kernels_[0] * factor
    kernels_.append(np.asarray(layer.residual_kernel) if layer.use_residual else np.zeros_like(kernels_[0]))
    heads = [np.split(kernel, layer.num_heads, axis=1) for kernel in kernels_]
    return [np.concatenate(head, axis=1) for head in zip(*heads, strict=True)]


def _affine(network: keras.Model, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Kernel [in, out] and bias [out] of a dense layer, including the batch normalization that follows it."""
    layer = network.get_layer(name)
    kernel, bias = np.asarray(layer.kernel), np.asarray(layer.bias)
    norm = f"deep_norm_{name.removeprefix('deep_')}"
    if norm not in [other.name for other in network.layers]:
        return kernel, bias
    norm_layer = network.get_layer(norm)
    variance, mean = np.asarray(norm_layer.moving_variance), np.asarray(norm_layer.moving_mean)
    factor = np.asarray(norm_layer.gamma) / np.sqrt(variance + norm_layer.epsilon)
    return kernel * factor, (bias - mean) * factor + np.asarray(norm_layer.beta)
