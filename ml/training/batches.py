"""Give rows to ``keras.Model.fit`` in batches.

On TensorFlow, Keras reads arrays by a pipeline of tf.data whose autotuner makes ``fit`` wait, up to a minute, whenever
it sleeps while an epoch ends. So the same pipeline is built here without the autotuner, with rows in the same order.
"""

import math
from typing import Any, Literal

import keras
import numpy as np

Arrays = list[np.ndarray]


class EpochOrder(keras.callbacks.Callback):
    """A new order of the rows for every epoch, which depends on the seed and the epoch alone.

    Args:
        rows: number of rows.
        seed: of the orders.
        group: number of consecutive rows that stay together, in their order; divides ``rows``.

    Attributes:
        order: int64 [rows], of the present epoch.
    """

    def __init__(self, rows: int, seed: int, group: int = 1) -> None:
        super().__init__()
        self._seed, self._group = seed, group
        self.order = np.arange(rows)  # Keras reads a batch before the first epoch

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Shuffle the rows. Called by Keras."""
        groups = np.random.default_rng([self._seed, epoch]).permutation(len(self.order) // self._group)
        self.order = (groups[:, None] * self._group + np.arange(self._group)).ravel()


def training_batches(inputs: Arrays, targets: Arrays, batch_size: int, order: EpochOrder | None) -> dict[str, Any]:
    """Return arguments of ``fit`` for the rows to learn from.

    Args:
        inputs: arrays [rows, ...] that the network takes.
        targets: arrays [rows], one for each output of the network.
        batch_size: rows per batch; the last one has the rest.
        order: which is also a callback of the same ``fit``; None: in the order that Keras's seed gives.
    """
    if keras.config.backend() == "tensorflow":
        return {"x": _tensorflow_batches(inputs, targets, batch_size, order or "shuffled"), "shuffle": False}
    if order:
        return {"x": _OrderedBatches(inputs, targets, batch_size, order), "shuffle": False}
    return {"x": _one_or_all(inputs), "y": _one_or_all(targets), "batch_size": batch_size}


def validation_batches(inputs: Arrays, targets: Arrays, batch_size: int) -> dict[str, Any]:
    """Return arguments of ``fit`` for the rows that only measure the loss; see ``training_batches``."""
    if keras.config.backend() == "tensorflow":
        return {"validation_data": _tensorflow_batches(inputs, targets, batch_size, "as_is")}
    return {"validation_data": (_one_or_all(inputs), _one_or_all(targets)), "validation_batch_size": batch_size}


def _tensorflow_batches(
    inputs: Arrays, targets: Arrays, batch_size: int, order: EpochOrder | Literal["shuffled", "as_is"]
) -> Any:
    """Return a ``tf.data.Dataset`` of batches of the rows in an order: ``shuffled``, ``as_is`` or each epoch's own."""
    import tensorflow as tf

    rows = len(targets[0])
    whole = rows // batch_size * batch_size
    data = tuple(_one_or_all([tf.constant(each) for each in arrays]) for arrays in (inputs, targets))

    def ordered(_: Any) -> Any:
        if isinstance(order, EpochOrder):
            indices = tf.numpy_function(lambda: order.order, [], tf.int64)
            return tf.ensure_shape(indices, (rows,))
        indices = tf.range(rows, dtype=tf.int64)
        return tf.random.shuffle(indices) if order == "shuffled" else indices

    def batched(indices: Any) -> Any:
        batches = tf.data.Dataset.from_tensor_slices(tf.reshape(indices[:whole], (-1, batch_size)))
        return batches.concatenate(tf.data.Dataset.from_tensors(indices[whole:])) if whole < rows else batches

    options = tf.data.Options()
    options.autotune.enabled = False
    options.experimental_optimization.apply_default_optimizations = False
    options.experimental_external_state_policy = tf.data.experimental.ExternalStatePolicy.IGNORE
    batches = tf.data.Dataset.range(1).map(ordered).flat_map(batched)
    batches = batches.map(lambda indices: tf.nest.map_structure(lambda each: tf.gather(each, indices), data))
    batches = batches.apply(tf.data.experimental.assert_cardinality(math.ceil(rows / batch_size)))
    return batches.prefetch(2).with_options(options)


class _OrderedBatches(keras.utils.PyDataset):
    """Batches of rows in the present order of an ``EpochOrder``."""

    def __init__(self, inputs: Arrays, targets: Arrays, batch_size: int, order: EpochOrder) -> None:
        super().__init__()
        self._data, self._batch_size, self._order = (inputs, targets), batch_size, order

    def __len__(self) -> int:
        return math.ceil(len(self._order.order) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        rows = self._order.order[index * self._batch_size : (index + 1) * self._batch_size]
        inputs, targets = (_one_or_all([each[rows] for each in arrays]) for arrays in self._data)
        return inputs, targets


def _one_or_all(arrays: list[Any]) -> Any:
    """Return inputs or targets as Keras takes them: a single array as it is, several as a tuple."""
    return arrays[0] if len(arrays) == 1 else tuple(arrays)
