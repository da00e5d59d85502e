"""Train one network by several processes: each computes the gradients of its part of every batch.

All processes start with the same weights and take the same steps, so that they end with the same weights, which are
those of one process up to float32's rounding. Dropout differs: each process draws for its own rows.

TensorFlow's collective operations carry the gradients (Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 4,
describes the scheme). Those of an embedding table are gathered row by row and not summed, since Adam needs the square
of each row, see ``CompiledAdam``.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any

import keras
import numpy as np

from ml.training.batches import Part
from ml.training.compiled_network import CompiledTraining

_GROUP = 1  # TensorFlow's key of the group of all processes
_keys = count(1)  # of the collective operations, in the order in which every process builds them


@dataclass(frozen=True)
class Workers:
    """This process among those that train together.

    Attributes:
        rank: of this process, from 0.
        size: number of processes.
    """

    rank: int
    size: int

    @classmethod
    def join(cls) -> "Workers":
        """Wait for the other processes that the environment variable ``TF_CONFIG`` names.

        Nothing of TensorFlow may have been used before. Raises ValueError without the variable.
        """
        import tensorflow as tf

        if not (config := json.loads(os.environ.get("TF_CONFIG", "{}"))):
            raise ValueError("TF_CONFIG is not set; expected the addresses of all workers and the place of this one")
        tf.distribute.MultiWorkerMirroredStrategy()  # connects to the other processes
        return cls(int(config["task"]["index"]), len(config["cluster"]["worker"]))

    def part(self, batch_size: int, group: int) -> Part:
        """Return which part of each batch is this process's; ``group``: rows that stay together."""
        return Part(self.rank, self.size, batch_size, group)

    def sum(self, values: Any) -> Any:
        """Return the sum of a tensor over all processes."""
        import tensorflow as tf

        return tf.raw_ops.CollectiveReduceV2(
            input=values, merge_op="Add", final_op="Id", ordering_token=[], **self._operation()
        )

    def gathered(self, values: Any) -> Any:
        """Return the tensors of all processes, joined along the first axis. They have one shape."""
        import tensorflow as tf

        return tf.raw_ops.CollectiveGatherV2(input=values, ordering_token=[], **self._operation())

    def _operation(self) -> dict[str, int]:
        return {"group_size": self.size, "group_key": _GROUP, "instance_key": next(_keys)}


class ParallelTraining(keras.Model):
    """A network whose steps are those of all workers together; a base class of models with ``compute_loss``.

    Its batches are those of ``ml.training.batches`` for a part: the weights say what share of the batch it is.

    Attributes:
        workers: of this process.
    """

    workers: Workers

    def train_step(self, data: Any) -> dict[str, Any]:
        """Learn from a batch. Called by Keras."""
        import tensorflow as tf

        x, y, part = keras.utils.unpack_x_y_sample_weight(data)
        with tf.GradientTape() as tape:
            loss = self.compute_loss(x, y, self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_weights)
        share, rows, most = tf.unstack(part)
        dense = [
            tf.reshape(each, weight.shape)
            for each, weight in zip(gradients, self.trainable_weights, strict=True)
            if not isinstance(each, tf.IndexedSlices)
        ]
        [total, *dense] = self._summed([loss, *dense], share)
        summed: Iterator[Any] = iter(dense)
        joined = [
            self._joined(each, share, tf.shape(_first(y))[0], tf.cast(most, tf.int32))
            if isinstance(each, tf.IndexedSlices)
            else next(summed)
            for each in gradients
        ]
        self.optimizer.apply_gradients(zip(joined, self.trainable_weights, strict=True))
        return self._updated(total, rows)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Measure the loss of a batch that is not learned from. Called by Keras."""
        import tensorflow as tf

        x, y, part = keras.utils.unpack_x_y_sample_weight(data)
        share, rows, _ = tf.unstack(part)
        [total] = self._summed([self.loss_of(x, y)], share)
        return self._updated(total, rows)

    def loss_of(self, x: Any, y: Any) -> Any:
        """Return the loss of rows that are not learned from."""
        return self.compute_loss(x, y, self(x, training=False), training=False)

    def _summed(self, values: list[Any], share: Any) -> list[Any]:
        """Return the weighted sums of tensors over all workers, by one operation; the first one is the loss."""
        import tensorflow as tf

        values = [tf.reshape(values[0], []), *values[1:]]
        flat = tf.concat([tf.reshape(each, [-1]) for each in values], axis=0)
        sizes = [int(np.prod(each.shape)) for each in values]
        parts = tf.split(self.workers.sum(flat * share), sizes)
        return [tf.reshape(part, each.shape) for part, each in zip(parts, values, strict=True)]

    def _joined(self, gradient: Any, share: Any, rows: Any, most: Any) -> Any:
        """Return the gradients of an embedding's rows from all workers.

        Args:
            gradient: of this worker's rows, a multiple of ``rows``.
            share: of the batch that these are.
            rows: of the batch, on this worker.
            most: of a whole batch, on any worker; missing ones are filled up by gradients of 0, since TensorFlow
                gathers tensors of one shape in all steps.
        """
        import tensorflow as tf

        missing = (most - rows) * (tf.shape(gradient.indices)[0] // rows)
        values = tf.pad(gradient.values * share, [[0, missing], [0, 0]])
        indices = tf.pad(tf.cast(gradient.indices, tf.int32), [[0, missing]])
        values = self.workers.gathered(values)
        with tf.control_dependencies([values]):  # every worker's operations are in one order
            indices = self.workers.gathered(indices)
        return tf.IndexedSlices(values, indices, gradient.dense_shape)

    def _updated(self, loss: Any, rows: Any) -> dict[str, Any]:
        for metric in self.metrics:  # the loss alone
            metric.update_state(loss, sample_weight=rows)
        return dict(self.get_metrics_result())


class ParallelNetwork(ParallelTraining):
    """A network that Keras's layers train.

    Args:
        network: which it shares layers and weights with.
        workers: of this process.
    """

    def __init__(self, network: keras.Model, workers: Workers) -> None:
        super().__init__(network.input, network.output, name=network.name)
        self.workers = workers


class ParallelCompiled(ParallelTraining, CompiledTraining):
    """A network that compiled loops train; arguments as above."""

    def __init__(self, network: keras.Model, workers: Workers) -> None:
        CompiledTraining.__init__(self, network)
        self.workers = workers

    def loss_of(self, x: Any, y: Any) -> Any:
        """See the base class."""
        return self.compute_loss(x, y, self._ends(x, False), training=False)


def _first(targets: Any) -> Any:
    return targets[0] if isinstance(targets, list | tuple) else targets
