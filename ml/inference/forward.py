"""Logits of encoded rows, as fast as the processor allows.

``AutoIntForward`` computes what a network of ``ml.models.autoint`` computes, in an order made for scoring millions of
rows: the first layer's projections are done once for every code instead of once for every row, rows are worked through
in tiles that fit the processor's cache, and each tile's projections are one matrix product. Any other network is run
by Keras.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import keras
import numpy as np
from threadpoolctl import ThreadpoolController

from ml.inference import kernels
from ml.models.autoint import BUILDERS, LOGIT_LAYER
from ml.models.layers import FieldEmbedding, InteractingLayer

_TILE = 64  # rows; a head's four projections of 14 fields are then 230 kB and stay in a level-2 cache
_TILES_A_SHARE = 64  # that a thread takes at a time, at most
_KERAS_BATCH = 8192


class Forward(Protocol):
    """A trained network's forward pass without dropout."""

    def logits(self, codes: np.ndarray) -> np.ndarray:
        """Log-odds of a like, float32 [rows], of codes int32 [rows, fields]."""
        ...


def forward_of(network: keras.Model) -> Forward:
    """The fastest forward pass that computes this network."""
    return AutoIntForward(network) if AutoIntForward.supports(network) else KerasForward(network)


class KerasForward:
    """Runs the network as it is; it has to give probabilities [rows, 1]."""

    def __init__(self, network: keras.Model) -> None:
        self._network = network

    def logits(self, codes: np.ndarray) -> np.ndarray:
        """See ``Forward``."""
        if not len(codes):
            return np.empty(0, np.float32)  # Keras cannot predict nothing
        probabilities = self._network.predict(codes, batch_size=_KERAS_BATCH, verbose=0)[:, 0].astype(np.float64)
        with np.errstate(divide="ignore"):
            return (np.log(probabilities) - np.log1p(-probabilities)).astype(np.float32)


class AutoIntForward:
    """AutoInt, with or without a deep branch, by matrix products and the compiled loops of ``ml.inference.kernels``.

    Equal to the network to float32's rounding.

    Args:
        network: made by ``ml.models.autoint``.
        threads: how many to use; default: one a processor.
    """

    def __init__(self, network: keras.Model, threads: int | None = None) -> None:
        embedding = network.get_layer("embedding")
        table = np.asarray(embedding.table)  # [codes of all fields, embed_dim]
        interacting = [layer for layer in network.layers if isinstance(layer, InteractingLayer)]
        self._offsets = embedding.offsets[:, None]  # [fields, 1]
        head_dim = interacting[0].head_dim
        self._factor = head_dim**-0.5 if interacting[0].scaled else 1.0
        first, *others = [_projections(layer) for layer in interacting]
        self._projected_tables = [table @ kernel for kernel in first]  # a head: [codes, 4 * head_dim]
        self._projections = [[np.ascontiguousarray(kernel.T) for kernel in heads] for heads in others]
        self._fields, self._width = len(embedding.field_dims), interacting[0].num_heads * head_dim
        self._head_dim, self._attend = head_dim, kernels.attention(self._fields, head_dim)
        attention = network.get_layer("attention_logit" if _is_deep(network) else LOGIT_LAYER)
        by_field = np.asarray(attention.kernel).reshape(self._fields, self._width)
        self._output = np.ascontiguousarray(by_field.T).reshape(1, -1)  # [1, width * fields]
        self._deep = _DeepBranch(network, table) if _is_deep(network) else None
        self._threads = threads or _processors()
        self._pools = ThreadpoolController()

    @staticmethod
    def supports(network: keras.Model) -> bool:
        """Whether this class computes the network: one of AutoInt's builders made it, of layers known here."""
        known = (FieldEmbedding, InteractingLayer, *_PLAIN_LAYERS)
        heads = [layer.head_dim for layer in network.layers if isinstance(layer, InteractingLayer)]
        family = network.name in BUILDERS and all(isinstance(layer, known) for layer in network.layers)
        return family and bool(heads)

    def logits(self, codes: np.ndarray) -> np.ndarray:
        """See ``Forward``."""
        out = np.empty(len(codes), np.float32)
        tiles = -(-len(codes) // _TILE)
        size = _TILE * min(_TILES_A_SHARE, -(-tiles // self._threads)) or _TILE

        def work(start: int) -> None:
            share = slice(start, start + size)
            out[share] = self._share_logits((np.ascontiguousarray(codes[share].T) + self._offsets).astype(np.uint32))

        # The threads share the rows; a matrix product that started threads of its own would only disturb them.
        with self._pools.limit(limits=1, user_api="blas"), ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(work, range(0, len(codes), size)))
        return out

    def _share_logits(self, rows: np.ndarray) -> np.ndarray:
        """Logits [n] of table rows [fields, n]."""
        logits = np.empty(rows.shape[1], np.float32)
        spaces: dict[int, _Space] = {}
        for start in range(0, rows.shape[1], _TILE):
            tile = np.ascontiguousarray(rows[:, start : start + _TILE])
            size = tile.shape[1]
            if size not in spaces:
                spaces[size] = _Space(self._head_dim, self._width, self._fields, size)
            space = spaces[size]
            for head, table in enumerate(self._projected_tables):
                kernels.gather(tile, table, space.projected)
                self._attend_head(space, head)
            for projections in self._projections:
                space.swap()
                for head, kernel in enumerate(projections):
                    np.matmul(kernel, space.inputs, out=space.projected.reshape(4 * self._head_dim, -1))
                    self._attend_head(space, head)
            logits[start : start + size] = (self._output @ space.hidden.reshape(-1, size))[0]
            if self._deep:
                logits[start : start + size] += self._deep.logits(tile)
        return logits

    def _attend_head(self, space: "_Space", head: int) -> None:
        columns = slice(head * self._head_dim, (head + 1) * self._head_dim)
        projected = space.projected.reshape(4, self._head_dim, *space.scores.shape)
        self._attend(projected, self._factor, space.scores, space.hidden[columns])


class _Space:
    """Work arrays for a tile of some size; a head's projections and the hidden states before and after a layer."""

    def __init__(self, head_dim: int, width: int, fields: int, size: int) -> None:
        self.projected = np.empty((4 * head_dim, fields, size), np.float32)
        self.scores = np.empty((fields, size), np.float32)
        self.hidden = np.empty((width, fields, size), np.float32)
        self._before = np.empty_like(self.hidden)

    def swap(self) -> None:
        """The states after the last layer become those before the next."""
        self.hidden, self._before = self._before, self.hidden

    @property
    def inputs(self) -> np.ndarray:
        """The states before a layer, [width, fields * size]."""
        return self._before.reshape(len(self._before), -1)


class _DeepBranch:
    """The deep branch; its first layer is done once for every code, as a sum over fields needs no more."""

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

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """Logits [n] of table rows [fields, n]."""
        hidden = np.empty((rows.shape[1], len(self._first_bias)), np.float32)
        kernels.gather_sum(rows, self._first_table, hidden)
        hidden = np.maximum(hidden + self._first_bias, 0)
        for kernel, bias in self._hidden:
            hidden = np.maximum(hidden @ kernel + bias, 0)
        kernel, bias = self._output
        return (hidden @ kernel + bias)[:, 0]


_PLAIN_LAYERS = (
    keras.layers.InputLayer,
    keras.layers.Flatten,
    keras.layers.Dense,
    keras.layers.BatchNormalization,
    keras.layers.ReLU,
    keras.layers.Dropout,
    keras.layers.Add,
    keras.layers.Activation,
)


def _processors() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _is_deep(network: keras.Model) -> bool:
    return any(layer.name == "deep_logit" for layer in network.layers)


def _projections(layer: InteractingLayer) -> list[np.ndarray]:
    """A head's four kernels side by side, [input width, 4 * head_dim]; zeros where there is no residual."""
    kernels_ = [np.asarray(kernel) for kernel in (layer.query_kernel, layer.key_kernel, layer.value_kernel)]
    kernels_.append(np.asarray(layer.residual_kernel) if layer.use_residual else np.zeros_like(kernels_[0]))
    heads = [np.split(kernel, layer.num_heads, axis=1) for kernel in kernels_]
    return [np.concatenate(head, axis=1) for head in zip(*heads, strict=True)]


def _affine(network: keras.Model, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Kernel [in, out] and bias [out] of a dense layer, with the batch normalisation that follows it worked in."""
    layer = network.get_layer(name)
    kernel, bias = np.asarray(layer.kernel), np.asarray(layer.bias)
    norm = f"deep_norm_{name.removeprefix('deep_')}"
    if norm not in [other.name for other in network.layers]:
        return kernel, bias
    norm_layer = network.get_layer(norm)
    variance, mean = np.asarray(norm_layer.moving_variance), np.asarray(norm_layer.moving_mean)
    factor = np.asarray(norm_layer.gamma) / np.sqrt(variance + norm_layer.epsilon)
    return kernel * factor, (bias - mean) * factor + np.asarray(norm_layer.beta)
