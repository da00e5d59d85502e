"""Logits of encoded rows, as fast as the processor allows.

``AutoIntForward`` computes what a network of ``ml.models.autoint`` computes, in an order for scoring millions of rows:
the first layer's projections are computed once per index instead of once per row, rows are processed in tiles that fit
the processor's cache, and each tile's projections are one matrix product. On a grid, such as users times movies, the
part of the first layer that depends on one side only is also computed once per side. Keras runs any other network.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import keras
import numpy as np
from scipy.special import expit
from threadpoolctl import ThreadpoolController

from ml.inference.engine import kernels
from ml.inference.engine.kernels import LANES
from ml.inference.engine.weights import DeepBranch, Numbers, is_deep, projections
from ml.models.autoint import LOGIT_LAYER, embedded_positions, inner_network
from ml.models.config import ARCHITECTURES
from ml.models.layers import FieldEmbedding, InteractingLayer
from ml.models.numerical import NumericalEmbedding, PairProducts, SelectFields
from ml.processors import available_processors

_GROUPS = 2  # of lanes in a tile; with 14 fields and two heads of 16 its work space is then 230 kB, for a level-2 cache
_TILE = _GROUPS * LANES  # rows
_SHARES_A_THREAD, _TILES_A_SHARE = 8, 64  # at least, at most
_KERAS_BATCH = 8192
_COMPARED_ROWS, _COMPARED_GRID = (
    256,
    2,
)  # rows, and rows of a grid, for comparison with a slow way
_ROUNDING = 3e-4
_DISTINCT = -80, 16  # log-odds between which float32 probabilities differ from 0 and 1
_log = logging.getLogger(__name__)


class Grid(Protocol):
    """All pairs of rows and columns, each with the indices of its own fields; the columns are fixed."""

    def logits(self, row_indices: np.ndarray) -> np.ndarray:
        """Log-odds, float32 [rows, columns], of the rows' indices int32 [rows, row fields]."""
        ...


class Forward(Protocol):
    """A trained network's forward pass without dropout."""

    def logits(self, indices: np.ndarray, numbers: np.ndarray | None = None) -> np.ndarray:
        """Log-odds of a like, float32 [rows].

        Args:
            indices: int32 [rows, fields].
            numbers: float32 [rows, numbers], for a network that takes numeric features too.
        """
        ...

    def grid(self, column_fields: np.ndarray, column_indices: np.ndarray) -> Grid:
        """Make a grid with these columns.

        Args:
            column_fields: positions of the columns' fields, ascending; the other fields are the rows', in order.
            column_indices: int32 [columns, column fields].
        """
        ...


def forward_of(network: keras.Model) -> Forward:
    """Choose the fastest forward pass that gives this network's values.

    ``AutoIntForward`` accepts a network by its layers' names and classes. Its values are compared with Keras's on some
    rows; where they differ, Keras runs the network, and the log says so.
    """
    exact = KerasForward(network)
    if not AutoIntForward.supports(network):
        return exact
    indices = _indices_to_compare(network)
    try:
        forward = AutoIntForward(network)
        found = forward.logits(indices)
    except (ValueError, LookupError, AttributeError, TypeError) as error:  # of other shapes than the builders'
        _log.warning("%s: has layers of AutoInt in an unknown arrangement (%s); Keras runs it", network.name, error)
        return exact
    expected = _log_odds(keras.ops.convert_to_numpy(network(indices, training=False)))
    if difference := _difference(found, expected):
        _log.warning(
            "%s: the fast scorer's log-odds differ by up to %.3g from Keras's; Keras runs it", network.name, difference
        )
        return exact
    return forward


def _indices_to_compare(network: keras.Model) -> np.ndarray:
    """Sample rows of indices that a network knows, int32 [rows, fields]; zeros for fields that it does not use."""
    inner = inner_network(network)
    sizes = np.ones(network.inputs[0].shape[1], np.int64)
    for layer in (*network.layers, *inner.layers):
        if isinstance(layer, PairProducts):
            sizes[list(layer.positions)] = layer.sizes
        if isinstance(layer, FieldEmbedding):
            sizes[embedded_positions(inner)] = layer.field_dims
    return np.random.default_rng(0).integers(sizes, size=(_COMPARED_ROWS, len(sizes)), dtype=np.int32)


def _difference(found: np.ndarray, expected: np.ndarray) -> float | None:
    """The largest difference of log-odds that float32's rounding does not explain; None where it explains all.

    The accepted difference is a share of the range of the expected log-odds, about a hundred times what trained
    networks show, plus the precision of a float32 probability as log-odds, which is worse the closer it is to 1.
    """
    found, expected = (np.clip(each.astype(np.float64), *_DISTINCT) for each in (found, expected))
    differences = np.abs(found - expected)
    likely = expit(expected)
    precision = 4 * np.finfo(np.float32).eps * np.maximum(1, 1 / (1 - likely))
    wrong = ~(differences <= _ROUNDING * np.ptp(expected) + precision)
    return float(differences[wrong].max()) if wrong.any() else None


class KerasForward:
    """Runs the network with Keras; it has to give probabilities [rows, 1]."""

    def __init__(self, network: keras.Model) -> None:
        self._network = network

    def logits(self, indices: np.ndarray, numbers: np.ndarray | None = None) -> np.ndarray:
        """See ``Forward``."""
        if not len(indices):
            return np.empty(0, np.float32)  # Keras cannot predict nothing
        inputs = indices if numbers is None else [indices, numbers]
        return _log_odds(self._network.predict(inputs, batch_size=_KERAS_BATCH, verbose=0))

    def grid(self, column_fields: np.ndarray, column_indices: np.ndarray) -> Grid:
        """See ``Forward``."""
        return JoinedGrid(self, column_fields, column_indices)


def _log_odds(probabilities: np.ndarray) -> np.ndarray:
    """Log-odds, float32 [rows], of probabilities [rows, 1]."""
    exact = probabilities[:, 0].astype(np.float64)
    with np.errstate(divide="ignore"):
        return (np.log(exact) - np.log1p(-exact)).astype(np.float32)


class JoinedGrid:
    """A grid whose pairs are scored like any rows; arguments as in ``Forward.grid``."""

    def __init__(self, forward: Forward, column_fields: np.ndarray, column_indices: np.ndarray) -> None:
        self._forward, self._column_fields, self._column_codes = forward, column_fields, column_indices

    def logits(self, row_indices: np.ndarray) -> np.ndarray:
        """See ``Grid``."""
        shape = (len(row_indices), len(self._column_codes))
        fields = row_indices.shape[1] + len(self._column_fields)
        indices = np.empty((*shape, fields), np.int32)
        indices[:, :, _others(self._column_fields, fields)] = row_indices[:, None]
        indices[:, :, self._column_fields] = self._column_codes
        return self._forward.logits(indices.reshape(-1, fields)).reshape(shape)


class AutoIntForward:
    """AutoInt, with or without a deep branch, computed by matrix products and the compiled loops of ``kernels``.

    Equal to the network to float32's rounding.

    Args:
        network: made by ``ml.models.autoint``.
        threads: number of threads; default: one per processor.
    """

    def __init__(self, network: keras.Model, threads: int | None = None) -> None:
        self._network = network
        inner = inner_network(network)
        embedding = inner.get_layer("embedding")
        table = np.asarray(embedding.table)  # [indices of the embedded fields, embed_dim]
        interacting = [layer for layer in inner.layers if isinstance(layer, InteractingLayer)]
        self.offsets = embedding.offsets  # [embedded fields]
        self._positions = embedded_positions(inner)
        self.head_dim, self.heads = interacting[0].head_dim, interacting[0].num_heads
        self.width = self.heads * self.head_dim
        first, *others = [projections(layer) for layer in interacting]
        self.tables = np.stack([table @ kernel for kernel in first])  # [heads, indices, 4 * head_dim]
        self._numbers = Numbers(network, first)
        self.fields = len(self.offsets) + self._numbers.count  # with a token for each number
        kernels_ = np.empty((len(others), self.heads, 4 * self.head_dim, self.width), np.float32)
        for layer, heads in enumerate(others):
            kernels_[layer] = [kernel.T for kernel in heads]
        self.kernels = kernels_
        self._score = kernels.scorer_of_rows(_GROUPS, self.fields, self.heads, self.head_dim)
        attention = inner.get_layer("attention_logit" if is_deep(inner) else LOGIT_LAYER)
        self.output = np.asarray(attention.kernel).reshape(self.fields, self.width).T  # [width, fields]
        self.deep = DeepBranch(inner, table) if is_deep(inner) else None
        self._threads = threads or available_processors()
        self._pools = ThreadpoolController()

    @staticmethod
    def supports(network: keras.Model) -> bool:
        """Whether a network has the layers of AutoInt's builders in a known form; ``forward_of`` compares values."""
        inner = inner_network(network)
        known = {FieldEmbedding, InteractingLayer, *_PLAIN_LAYERS}
        interacting = [layer for layer in inner.layers if isinstance(layer, InteractingLayer)]
        linear = not any(layer.projection_relu or layer.layer_norm for layer in interacting)
        family = inner.name in ARCHITECTURES and all(type(layer) in known for layer in inner.layers)
        signals = any(isinstance(layer, NumericalEmbedding) for layer in inner.layers)
        tables = sum(isinstance(layer, FieldEmbedding) for layer in inner.layers)
        selections = sum(isinstance(layer, SelectFields) for layer in inner.layers)
        family = family and tables == 1 and selections <= 1 and linear
        closed = signals == (inner is not network) and not (signals and is_deep(inner))
        return family and closed and bool(interacting)

    def logits(self, indices: np.ndarray, numbers: np.ndarray | None = None) -> np.ndarray:
        """See ``Forward``. Networks with numeric features are not supported."""
        tiles = -(-len(indices) // _TILE)
        rows = np.zeros((tiles * _TILE, len(self.offsets)), np.uint32)
        np.add(indices[:, self._positions], self.offsets, out=rows[: len(indices)], casting="unsafe")
        lanes = rows.reshape(tiles, _GROUPS, LANES, len(self.offsets)).transpose(0, 1, 3, 2)
        out = np.empty((tiles, _TILE), np.float32)
        output = np.ascontiguousarray(self.output)

        def work(share: slice) -> None:
            own = indices[share.start * _TILE : share.stop * _TILE]
            self._score(
                np.ascontiguousarray(lanes[share]),
                self._number_lanes(own, share.stop - share.start),
                self.tables,
                self._numbers.slopes,
                self._numbers.offsets,
                self.kernels,
                output,
                out[share],
            )
            if self.deep:
                first = self.deep.first(rows[share.start * _TILE : share.stop * _TILE])
                out[share] += self.deep.logits(first).reshape(-1, _TILE)

        self.share_out(tiles, work)
        return out.reshape(-1)[: len(indices)]

    def _number_lanes(self, indices: np.ndarray, tiles: int) -> np.ndarray:
        """Signals for the compiled loop, float32 [tiles, groups, signals, lanes]; zeros fill the last tile."""
        count = self._numbers.count
        rows = np.zeros((tiles * _TILE, count), np.float32)
        rows[: len(indices)] = self._numbers.of(indices)
        return np.ascontiguousarray(rows.reshape(tiles, _GROUPS, LANES, count).transpose(0, 1, 3, 2))

    def grid(self, column_fields: np.ndarray, column_indices: np.ndarray) -> Grid:
        """See ``Forward``."""
        # A number depends on both sides, so neither side's attention can be computed alone.
        of_sides = not self._numbers.count and isinstance(self._positions, slice)
        joined = JoinedGrid(self, column_fields, column_indices)
        if not of_sides or not len(column_indices):
            return joined
        grid = _AutoIntGrid(self, column_fields, column_indices)
        # The grid is compared with the rows, which ``forward_of`` compares with Keras.
        fields = _others(column_fields, self.fields)
        rows = _indices_to_compare(self._network)[:_COMPARED_GRID, fields]
        some = JoinedGrid(self, column_fields, column_indices[:_COMPARED_ROWS])
        if difference := _difference(grid.logits(rows)[:, :_COMPARED_ROWS], some.logits(rows)):
            _log.warning(
                "%s: log-odds on a grid differ by up to %.3g from those of its rows; the rows are scored one by one",
                self._network.name,
                difference,
            )
            return joined
        return grid

    def share_out(self, tiles: int, work: Callable[[slice], None]) -> None:
        """Process all tiles with all threads, in shares that are small enough to keep every thread busy to the end."""
        size = min(-(-tiles // (_SHARES_A_THREAD * self._threads)), _TILES_A_SHARE) or 1
        shares = [slice(start, min(start + size, tiles)) for start in range(0, tiles, size)]
        # The threads share the tiles; matrix products with threads of their own would compete with them.
        with self._pools.limit(limits=1, user_api="blas"), ThreadPoolExecutor(self._threads) as pool:
            list(pool.map(work, shares))


class _AutoIntGrid:
    """A grid whose columns' part of the first layer is computed."""

    def __init__(self, forward: AutoIntForward, column_fields: np.ndarray, column_indices: np.ndarray) -> None:
        self._forward, self._count = forward, len(column_indices)
        self._row_fields = _others(column_fields, forward.fields)
        self._tiles = -(-self._count // _TILE)
        indices = np.resize(column_indices, (self._tiles * _TILE, len(column_fields)))  # fills the last tile
        rows = indices + forward.offsets[column_fields]
        sides = [_side(table[rows]).reshape(self._tiles * _GROUPS, LANES, -1) for table in forward.tables]
        lanes = np.stack(sides, axis=1).transpose(0, 1, 3, 2)  # [tiles * groups, heads, side's numbers, LANES]
        lanes = lanes.reshape(self._tiles, _GROUPS, forward.heads, -1).transpose(0, 2, 1, 3)
        self._sides = lanes.reshape(self._tiles, forward.heads, -1)
        sizes = (_GROUPS, len(self._row_fields), len(column_fields), forward.heads, forward.head_dim)
        self._score = kernels.scorer_of_grid(*sizes)
        order = np.concatenate([self._row_fields, column_fields])
        self._output = np.ascontiguousarray(forward.output[:, order])
        if forward.deep:
            self._deep_columns = forward.deep.first(rows).reshape(self._tiles, _TILE, -1)

    def logits(self, row_indices: np.ndarray) -> np.ndarray:
        """See ``Grid``."""
        forward = self._forward
        rows = row_indices + forward.offsets[self._row_fields]
        sides = np.stack([_side(table[rows]) for table in forward.tables])  # [heads, rows, side's numbers]
        deep_rows = forward.deep.first(rows)[:, None] if forward.deep else None
        out = np.empty((self._tiles, len(rows), _TILE), np.float32)

        def work(share: slice) -> None:
            for tile in range(share.start, share.stop):
                self._score(sides, self._sides[tile], forward.kernels, self._output, out[tile])
                if forward.deep:
                    first = deep_rows + self._deep_columns[tile]  # [rows, columns of a tile, units]
                    out[tile] += forward.deep.logits(first.reshape(-1, first.shape[2])).reshape(len(rows), _TILE)

        forward.share_out(self._tiles, work)
        return out.transpose(1, 0, 2).reshape(len(rows), self._tiles * _TILE)[:, : self._count]


def _side(projected: np.ndarray) -> np.ndarray:
    """A side as ``kernels.scorer_of_grid`` expects it, [n, (5 * head_dim + 2) * S].

    Args:
        projected: queries, keys, values and residuals of a head [n, S, 4 * head_dim].
    """
    query, key, value, _ = np.split(projected, 4, axis=2)
    scores = query @ key.transpose(0, 2, 1)  # [n, S, S]
    highest = scores.max(axis=2, keepdims=True)
    weights = np.exp2(scores - highest)
    numbers = [projected, weights @ value, highest, weights.sum(axis=2, keepdims=True)]
    by_number = np.concatenate(numbers, axis=2).transpose(0, 2, 1)  # [n, 5 * head_dim + 2, S]
    return by_number.reshape(len(by_number), by_number.shape[1] * by_number.shape[2])


_PLAIN_LAYERS = (
    SelectFields,
    NumericalEmbedding,
    keras.layers.Concatenate,
    keras.layers.InputLayer,
    keras.layers.Flatten,
    keras.layers.Dense,
    keras.layers.BatchNormalization,
    keras.layers.ReLU,
    keras.layers.Dropout,
    keras.layers.Add,
    keras.layers.Activation,
)


def _others(fields: np.ndarray, count: int) -> np.ndarray:
    """Positions below ``count`` that are not among ``fields``."""
    return np.setdiff1d(np.arange(count), fields)
