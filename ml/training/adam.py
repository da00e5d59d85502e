"""Keras's Adam on TensorFlow, several times faster on embedding tables."""

from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops

from ml.compiled.loops import EXACT, compile_loop
from ml.training.arrays import aligned


@partial(compile_loop, flags=EXACT)
def _update(
    gradients: np.ndarray,
    rows: np.ndarray,
    sums: np.ndarray,
    squares: np.ndarray,
    before: tuple[np.ndarray, np.ndarray, np.ndarray],
    after: tuple[np.ndarray, np.ndarray, np.ndarray],
    factors: np.ndarray,
) -> None:
    """Set a table and its moments as Adam does.

    Args:
        gradients: of the table rows ``rows``, [n, columns].
        rows: [n].
        sums: zeros of the table's shape, before and after.
        squares: the same.
        before: momentum, velocity and table, flat.
        after: the same, to be set.
        factors: learning rate with bias correction, 1 - beta_1, 1 - beta_2, epsilon.
    """
    for i in range(len(rows)):
        row = rows[i]
        for c in range(gradients.shape[1]):
            sums[row, c] += gradients[i, c]
            squares[row, c] += gradients[i, c] * gradients[i, c]
    total, total_squares = sums.reshape(-1), squares.reshape(-1)
    rate, first, second, epsilon = factors
    for i in range(len(total)):
        momentum = before[0][i] + (total[i] - before[0][i]) * first
        velocity = before[1][i] + (total_squares[i] - before[1][i]) * second
        after[0][i], after[1][i] = momentum, velocity
        after[2][i] = before[2][i] - momentum * rate / (np.sqrt(velocity) + epsilon)
        total[i] = total_squares[i] = np.float32(0)


class CompiledAdam(keras.optimizers.Adam):
    """Adam with the same numbers as Keras's on TensorFlow.

    TensorFlow has the gradient of an embedding table as one row for each index of the batch, ``IndexedSlices``. Where
    an index occurs several times, Keras adds these rows for the first moment, and their squares for the second. Its
    operations for that take longer than all other updates together; here a compiled loop does the same, and updates the
    table in one pass.
    """

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """See ``keras.optimizers.Adam``."""
        import tensorflow as tf

        if not isinstance(gradient, tf.IndexedSlices):
            super().update_step(gradient, variable, learning_rate)
            return
        step = ops.cast(self.iterations + 1, variable.dtype)
        first_decay = ops.power(ops.cast(self.beta_1, variable.dtype), step)
        second_decay = ops.power(ops.cast(self.beta_2, variable.dtype), step)
        rate = ops.cast(learning_rate, variable.dtype) * ops.sqrt(1 - second_decay) / (1 - first_decay)
        index = self._get_variable_index(variable)
        changed = self._momentums[index], self._velocities[index], variable
        found = tf.numpy_function(
            _update_of(variable.shape),
            [
                gradient.values,
                gradient.indices,
                tf.stack([rate, 1 - self.beta_1, 1 - self.beta_2, self.epsilon]),
                *(tf.convert_to_tensor(each) for each in changed),
            ],
            [tf.float32] * len(changed),
        )
        for each, value in zip(changed, found, strict=True):
            value.set_shape(variable.shape)
            self.assign(each, value)


def _update_of(shape: tuple[int, int]) -> Any:
    sums, squares = np.zeros(shape, np.float32), np.zeros(shape, np.float32)

    def update(gradients: np.ndarray, rows: np.ndarray, factors: np.ndarray, *before: np.ndarray) -> list[np.ndarray]:
        after = [aligned(shape) for _ in before]
        flat = [tuple(each.reshape(-1) for each in arrays) for arrays in (before, after)]
        _update(gradients, rows, sums, squares, *flat, factors)
        return after

    return update


def hand_over(optimizer: keras.optimizers.Adam, model: keras.Model, loss: str) -> None:
    """Compile a model with Keras's own Adam in the state of another one, so that it is saved like any Keras model."""
    settings = {name: value for name, value in optimizer.get_config().items() if name != "name"}
    own = keras.optimizers.Adam.from_config(settings)
    own.build(model.trainable_variables)
    for variable, value in zip(own.variables, optimizer.variables, strict=True):
        variable.assign(value)
    model.compile(optimizer=own, loss=loss)
