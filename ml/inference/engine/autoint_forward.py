"""Logits of AutoInt's networks, as fast as the processor allows.

``AutoIntForward`` computes what a network of ``ml.models.autoint`` computes, in an order for scoring millions of rows:
the first layer's projections are computed once per index instead of once per row, rows are processed in tiles that fit
the processor's cache, and each tile's projections are one matrix product. On a grid, such as users times movies, the
part of the first layer that depends on one side only is also computed once per side.
"""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import keras
import numpy as np
from threadpoolctl import ThreadpoolController

from ml.compiled.loops import LANES
from ml.inference.engine import kernels
from ml.inference.engine.keras_forward import (
    COMPARED_ROWS,
    Grid,
    JoinedGrid,
    difference,
    indices_to_compare,
    other_positions,
)
from ml.inference.engine.weights import ATTENTION_LOGIT, DeepBranch, Numbers, branch_of, has_branch, projections
from ml.models.autoint import LOGIT_LAYER, embedded_positions, inner_network
from ml.models.config import ARCHITECTURES
from ml.models.interaction import CompressedInteraction
from ml.models.layers import FieldEmbedding, InteractingLayer
from ml.models.numerical import NumericalEmbedding, SelectFields
from ml.processors import available_processors

_GROUPS = 1  # of lanes in a tile; with 22 fields and two heads of 16 its work space is then 180 kB, for a level-2 cache
_TILE = _GROUPS * LANES  # rows
_SHARES_A_THREAD, _TILES_A_SHARE = 8, 64  # at least, at most
_DEEP_PAIRS = 2048  # of a grid, at a time
_COMPARED_GRID = 2  # rows of a grid that are compared with the same rows one by one
_log = logging.getLogger(__name__)


class AutoIntForward:
    """AutoInt and its variants with a branch, computed by matrix products and the compiled loops of ``kernels``.

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
        attention = inner.get_layer(ATTENTION_LOGIT if has_branch(inner) else LOGIT_LAYER)
        self.output = np.asarray(attention.kernel).reshape(self.fields, self.width).T  # [width, fields]
        self.branch = branch_of(inner, table)
        self._threads = threads or available_processors()
        # Kept, since a list of one user takes little longer than starting threads for it.
        self._helpers = ThreadPoolExecutor(max(self._threads - 1, 1), "scorer")
        self._pools = ThreadpoolController()

    @staticmethod
    def supports(network: keras.Model) -> bool:
        """Whether a network has the layers of AutoInt's builders in a known form; ``forward_of`` compares values."""
        inner = inner_network(network)
        interacting = [layer for layer in inner.layers if isinstance(layer, InteractingLayer)]
        linear = not any(layer.projection_relu or layer.layer_norm for layer in interacting)
        linear = linear and all(layer.attention == "softmax" and not layer.sides for layer in interacting)
        family = inner.name in ARCHITECTURES and all(_is_known(type(layer)) for layer in inner.layers)
        signals = any(isinstance(layer, NumericalEmbedding) for layer in inner.layers)
        tables = sum(isinstance(layer, FieldEmbedding) for layer in inner.layers)
        selections = sum(isinstance(layer, SelectFields) for layer in inner.layers)
        family = family and tables == 1 and selections <= 1 and linear
        closed = signals == (inner is not network) and not (signals and has_branch(inner))
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
            if self.branch:
                first = self.branch.first(rows[share.start * _TILE : share.stop * _TILE])
                out[share] += self.branch.logits(first).reshape(-1, _TILE)

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
        # A number depends on both sides, so neither side's attention can be computed alone; nor can interactions.
        alone = self.branch is None or isinstance(self.branch, DeepBranch)
        of_sides = not self._numbers.count and isinstance(self._positions, slice) and alone
        joined = JoinedGrid(self, column_fields, column_indices)
        if not of_sides or not len(column_indices):
            return joined
        grid = _AutoIntGrid(self, column_fields, column_indices)
        # The grid is compared with the rows, which ``forward_of`` compares with Keras.
        fields = other_positions(column_fields, self.fields)
        rows = indices_to_compare(self._network)[:_COMPARED_GRID, fields]
        some = JoinedGrid(self, column_fields, column_indices[:COMPARED_ROWS])
        if apart := difference(grid.logits(rows)[:, :COMPARED_ROWS], some.logits(rows)):
            _log.warning(
                "%s: log-odds on a grid differ by up to %.3g from those of its rows; the rows are scored one by one",
                self._network.name,
                apart,
            )
            return joined
        return grid

    def share_out(self, tiles: int, work: Callable[[slice], None]) -> None:
        """Process all tiles with all threads, in shares that are small enough to keep every thread busy to the end."""
        size = min(-(-tiles // (_SHARES_A_THREAD * self._threads)), _TILES_A_SHARE) or 1
        shares = [slice(start, min(start + size, tiles)) for start in range(0, tiles, size)]
        left = iter(shares)  # a list's iterator gives each share to one thread only

        def work_on() -> None:
            for share in left:
                work(share)

        # The threads share the tiles; matrix products with threads of their own would compete with them.
        with self._pools.limit(limits=1, user_api="blas"):
            helping = [self._helpers.submit(work_on) for _ in range(min(self._threads, len(shares)) - 1)]
            try:
                work_on()
            finally:
                wait(each for each in helping if not each.cancel())
        for helper in helping:
            if not helper.cancelled():
                helper.result()


class _AutoIntGrid:
    """A grid whose columns' part of the first layer is computed."""

    def __init__(self, forward: AutoIntForward, column_fields: np.ndarray, column_indices: np.ndarray) -> None:
        self._forward, self._count = forward, len(column_indices)
        self._row_fields = other_positions(column_fields, forward.fields)
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
        self._deep = forward.branch if isinstance(forward.branch, DeepBranch) else None
        if self._deep:
            self._deep_columns = self._deep.first(rows).reshape(self._tiles, _TILE, -1)

    def logits(self, row_indices: np.ndarray) -> np.ndarray:
        """See ``Grid``."""
        forward = self._forward
        rows = row_indices + forward.offsets[self._row_fields]
        sides = np.stack([_side(table[rows]) for table in forward.tables])  # [heads, rows, side's numbers]
        deep_rows = self._deep.first(rows)[:, None] if self._deep else None
        out = np.empty((self._tiles, len(rows), _TILE), np.float32)

        def work(share: slice) -> None:
            self._score(sides, self._sides[share], forward.kernels, self._output, out[share])
            if self._deep:
                step = -(-_DEEP_PAIRS // (max(len(rows), 1) * _TILE))
                for start in range(share.start, share.stop, step):
                    tiles = slice(start, min(start + step, share.stop))
                    first = deep_rows + self._deep_columns[tiles, None]  # [tiles, rows, columns of a tile, units]
                    out[tiles] += self._deep.logits(first.reshape(-1, first.shape[-1])).reshape(out[tiles].shape)

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


def _is_known(layer: type) -> bool:
    """Return whether a layer is one of Keras's own, or one that the scorer computes."""
    own = {FieldEmbedding, InteractingLayer, SelectFields, NumericalEmbedding, CompressedInteraction}
    return layer in own or layer.__module__.startswith("keras.")
