"""Give rows to ``keras.Model.fit`` in batches.

On TensorFlow, Keras reads arrays by a pipeline of tf.data whose autotuner makes ``fit`` wait, up to a minute, whenever
it sleeps while an epoch ends. So the same pipeline is built here without the autotuner, with rows in the same order.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import keras
import numpy as np

from ml.data.mapped import release

Arrays = list[np.ndarray]

LARGEST_SHUFFLE = 2**23  # groups of rows; fixed, since results depend on it
_PIECE, _WINDOW = 2**15, 2**20  # groups of rows


class EpochOrder(keras.callbacks.Callback):
    """A new order of the rows for every epoch, which depends on the seed and the epoch alone.

    Up to ``LARGEST_SHUFFLE`` groups of rows are shuffled as a whole. More are shuffled in two levels, so that an epoch
    reads files in large pieces: the rows are cut into pieces of ``_PIECE`` groups, and the pieces are shuffled; then
    the order is cut into windows of about ``_WINDOW`` groups, and each window is shuffled.

    Args:
        rows: number of rows.
        seed: of the orders.
        group: number of consecutive rows that stay together, in their order; divides ``rows``.
        batch_size: rows per batch, a multiple of ``group``; no batch is in two windows.

    Attributes:
        window_rows: rows of a window; the last one has the rest.
        windows: number of windows.
    """

    def __init__(self, rows: int, seed: int, group: int = 1, batch_size: int = 1) -> None:
        super().__init__()
        self._rows, self._seed, self._group = rows, seed, group
        self._epoch = 0  # Keras reads a batch before the first epoch
        is_small = rows // group <= LARGEST_SHUFFLE
        self.window_rows = rows if is_small else max(_WINDOW * group // batch_size, 1) * batch_size
        self.windows = -(-rows // self.window_rows)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Shuffle the rows. Called by Keras."""
        self._epoch = epoch

    def window(self, number: int) -> np.ndarray:
        """Return the rows of a window in their order, int64 [window_rows]."""
        seed = [self._seed, self._epoch]
        if self.windows == 1:
            groups = np.random.default_rng(seed).permutation(self._rows // self._group)
        else:
            first = number * self.window_rows // self._group
            last = min((number + 1) * self.window_rows, self._rows) // self._group
            groups = self._in_pieces(np.arange(first, last), np.random.default_rng(seed))
            groups = np.random.default_rng([*seed, number]).permutation(groups)
        return (groups[:, None] * self._group + np.arange(self._group)).ravel()

    def _in_pieces(self, places: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the groups at some places of the order whose pieces are shuffled."""
        groups = self._rows // self._group
        starts = np.arange(0, groups, _PIECE)
        starts = rng.permutation(starts)
        ends = np.cumsum(np.minimum(_PIECE, groups - starts))
        piece = np.searchsorted(ends, places, side="right")
        return np.minimum(starts[piece] + _PIECE, groups) - (ends[piece] - places)


@dataclass(frozen=True)
class Part:
    """Which part of every batch is given, where several processes share the batches.

    Attributes:
        number: of the part, from 0.
        parts: number of parts; their sizes differ by at most one group.
        batch_size: rows of a batch; the last one can have fewer.
        group: number of consecutive rows that stay together.
    """

    number: int
    parts: int
    batch_size: int
    group: int = 1

    def of(self, rows: Any) -> tuple[Any, Any]:
        """Return the part of a batch, and what it is of the whole.

        Args:
            rows: of the batch, int64 tensor [n].

        Returns:
            The part's rows; one group of no weight if there are fewer groups than parts. And float32 [3]: the share of
            the batch that the part is, the batch's rows, and the rows of the largest part of a whole
            batch.
        """
        import tensorflow as tf

        groups = tf.size(rows) // self.group
        first, last = (groups * edge // self.parts * self.group for edge in (self.number, self.number + 1))
        most = -(-self.batch_size // self.group // self.parts) * self.group
        share = (last - first) / tf.size(rows)
        own = tf.cond(last > first, lambda: rows[first:last], lambda: rows[: self.group])
        return own, tf.stack([tf.cast(each, tf.float32) for each in (share, tf.size(rows), most)])


def training_batches(
    inputs: Arrays, targets: Arrays, batch_size: int, order: EpochOrder | None, part: Part | None = None
) -> dict[str, Any]:
    """Return arguments of ``fit`` for the rows to learn from.

    Args:
        inputs: arrays [rows, ...] that the network takes.
        targets: arrays [rows], one for each output of the network.
        batch_size: rows per batch; the last one has the rest.
        order: which is also a callback of the same ``fit``; None: in the order that Keras's seed gives.
        part: of the batches, on TensorFlow; default: whole batches. With a part, a batch has what ``Part.of`` says in
            place of sample weights.
    """
    if keras.config.backend() == "tensorflow":
        return {"x": _tensorflow_batches(inputs, targets, batch_size, order or "shuffled", part), "shuffle": False}
    if order:
        return {"x": _OrderedBatches(inputs, targets, batch_size, order), "shuffle": False}
    return {"x": _one_or_all(inputs), "y": _one_or_all(targets), "batch_size": batch_size}


def validation_batches(inputs: Arrays, targets: Arrays, batch_size: int, part: Part | None = None) -> dict[str, Any]:
    """Return arguments of ``fit`` for the rows that only measure the loss; see ``training_batches``."""
    if keras.config.backend() == "tensorflow":
        return {"validation_data": _tensorflow_batches(inputs, targets, batch_size, "as_is", part)}
    return {"validation_data": (_one_or_all(inputs), _one_or_all(targets)), "validation_batch_size": batch_size}


def _tensorflow_batches(
    inputs: Arrays,
    targets: Arrays,
    batch_size: int,
    order: EpochOrder | Literal["shuffled", "as_is"],
    part: Part | None,
) -> Any:
    """Return a ``tf.data.Dataset`` of batches of the rows in an order: ``shuffled``, ``as_is`` or each epoch's own."""
    import tensorflow as tf

    rows = len(targets[0])
    arrays = [*inputs, *targets]
    windows = order.windows if isinstance(order, EpochOrder) else 1

    def ordered(number: Any) -> Any:
        if isinstance(order, EpochOrder):
            return tf.ensure_shape(tf.numpy_function(partial(_next_window, order, arrays), [number], tf.int64), (None,))
        indices = tf.range(rows, dtype=tf.int64)
        return tf.random.shuffle(indices) if order == "shuffled" else indices

    def batched(indices: Any) -> Any:
        whole = tf.size(indices) // batch_size * batch_size
        batches = tf.data.Dataset.from_tensor_slices(tf.reshape(indices[:whole], (-1, batch_size)))
        rest = tf.data.Dataset.from_tensors(indices[whole:])
        return batches.concatenate(rest.filter(lambda left: tf.size(left) > 0))

    def gathered(indices: Any) -> Any:
        indices, of_whole = part.of(indices) if part else (indices, None)
        found = tf.numpy_function(
            lambda chosen: [np.take(each, chosen, axis=0) for each in arrays],
            [indices],
            [each.dtype for each in arrays],
        )
        for each, array in zip(found, arrays, strict=True):
            each.set_shape((None, *array.shape[1:]))
        batch = _one_or_all(found[: len(inputs)]), _one_or_all(found[len(inputs) :])
        return batch if of_whole is None else (*batch, of_whole)

    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
    batches = tf.data.Dataset.range(windows).map(ordered).flat_map(batched).map(gathered)
    batches = batches.apply(tf.data.experimental.assert_cardinality(math.ceil(rows / batch_size)))
    return batches.prefetch(2).with_options(options)


def _next_window(order: EpochOrder, arrays: Arrays, number: int) -> np.ndarray:
    """Return a window's rows; what was read for the window before can leave the memory."""
    release(*arrays)
    return order.window(int(number))


class _OrderedBatches(keras.utils.PyDataset):
    """Batches of rows in the present order of an ``EpochOrder``."""

    def __init__(self, inputs: Arrays, targets: Arrays, batch_size: int, order: EpochOrder) -> None:
        super().__init__()
        self._data, self._batch_size, self._order = (inputs, targets), batch_size, order
        self._window = np.empty(0, np.int64)

    def __len__(self) -> int:
        return math.ceil(len(self._data[1][0]) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        number, start = divmod(index * self._batch_size, self._order.window_rows)
        if start == 0:
            self._window = self._order.window(number)
        rows = self._window[start : start + self._batch_size]
        inputs, targets = (_one_or_all([each[rows] for each in arrays]) for arrays in self._data)
        return inputs, targets


def _one_or_all(arrays: list[Any]) -> Any:
    """Return inputs or targets as Keras takes them: a single array as it is, several as a tuple."""
    return arrays[0] if len(arrays) == 1 else tuple(arrays)
