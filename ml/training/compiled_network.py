"""Train a network's interacting layers by compiled loops, under Keras's ``fit``."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np

from ml.compiled.loops import LANES
from ml.models.autoint import LOGIT_LAYER
from ml.models.layers import InteractingLayer
from ml.training.arrays import aligned
from ml.training.compiled_step import PROJECTIONS, training_step

# By the name of an architecture: the layers that make the interacting layers' logit, and a logit to add to it.
_LOGITS = {
    "autoint": (LOGIT_LAYER, None),
    "autoint_mlp": ("attention_logit", "deep_logit"),
    "autoint_cin": ("attention_logit", "interaction_logit"),
}
_UNSUPPORTED = ("projection_relu", "attention_dropout", "layer_norm", "sides")
_SMALL_PRODUCT = 10**6  # multiplications; OpenBLAS computes larger matrix products in a slower way


def obstacle(network: keras.Model) -> str | None:
    """Return why a network cannot be trained by the compiled step, or None if it can.

    The step is for TensorFlow without a GPU, float32, the architectures of ``ml.models.autoint``, and interacting
    layers with softmax, without projection_relu, attention_dropout, layer_norm and sides. All other settings are
    supported.
    """
    if keras.config.backend() != "tensorflow":
        return f"Keras's backend is {keras.config.backend()}"
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return "TensorFlow uses a GPU"
    if network.name not in _LOGITS:
        return f"its architecture is {network.name}"
    for layer in network.layers:
        if layer.dtype_policy.name != "float32":
            return f"layer {layer.name} computes in {layer.dtype_policy.name}"
        if not isinstance(layer, InteractingLayer):
            continue
        used = [name for name in _UNSUPPORTED if getattr(layer, name)]
        used += [layer.attention] if layer.attention != "softmax" else []
        if used:
            return f"layer {layer.name} has {' and '.join(used)}"
    return None


class CompiledTraining(keras.Model):
    """A network whose losses are computed by compiled loops; it predicts by the network's own layers.

    It has the network's layers and weights, not copies. Embeddings and the branch beside the interacting
    layers are Keras's; then ``training_step`` computes the loss of everything after them, and in training its gradients
    in the same call, which Keras propagates to all weights.

    Args:
        network: one without an ``obstacle``.
    """

    def __init__(self, network: keras.Model) -> None:
        super().__init__(network.input, network.output, name=network.name)
        attention, other = _LOGITS[network.name]
        interacting = [layer for layer in network.layers if isinstance(layer, InteractingLayer)]
        tokens = interacting[0].input
        ends = [tokens, network.get_layer(other).output] if other else [tokens]
        front = keras.Model(network.input, ends)
        output = network.get_layer(attention).kernel
        fields, embed_dim = tokens.shape[1:]
        # In functions, where Keras does not find the layers a second time.
        self._ends: Callable[[Any, bool], Any] = lambda inputs, training: front(inputs, training=training)
        self._weights: Callable[[], list[Any]] = lambda: _weights(interacting, output, fields)
        self._step = _step(fields, embed_dim, interacting[0].num_heads, interacting[0].head_dim)

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Return the probabilities; in training, what they are computed from: tokens, and the logit of a branch."""
        return self._ends(inputs, True) if training else super().call(inputs, training=training, mask=mask)

    def test_step(self, data: Any) -> dict[str, Any]:
        """Update the loss by a batch that is not learned from. Called by Keras."""
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        loss = self.compute_loss(x, y, self._ends(x, False), sample_weight, training=False)
        for metric in self.metrics:  # the loss alone, since the network is compiled without other metrics
            metric.update_state(loss, sample_weight=keras.ops.shape(y)[0])
        return dict(self.get_metrics_result())

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """Return the mean binary cross-entropy plus the layers' penalties.

        ``y_pred`` is what ``call`` returns in training.
        """
        if sample_weight is not None:
            raise ValueError("sample_weight is not supported by the compiled training step; expected None")
        import tensorflow as tf

        tokens, *others = y_pred if isinstance(y_pred, list | tuple) else [y_pred]
        labels = tf.cast(tf.reshape(y, [-1]), tf.float32)
        logits = tf.reshape(others[0], [-1]) if others else tf.zeros_like(labels)
        loss_of = _differentiable(self._step, labels) if training else partial(_loss, self._step, labels)
        return sum(self.losses, loss_of(tokens, logits, *self._weights()))


def _weights(interacting: list[InteractingLayer], output: Any, fields: int) -> list[Any]:
    """Return the kernels of the first layer and of the further ones, and the output weights, as the step takes them.

    Returns:
        Tensors [4, E, W], [layers - 1, 4, W, W] and [F, W].
    """
    import tensorflow as tf

    kernels = []
    for layer in interacting:
        scale = math.log2(math.e) / (layer.head_dim**0.5 if layer.scaled else 1.0)
        query, key, value = (
            tf.convert_to_tensor(kernel) for kernel in (layer.query_kernel, layer.key_kernel, layer.value_kernel)
        )
        residual = tf.convert_to_tensor(layer.residual_kernel) if layer.use_residual else tf.zeros_like(value)
        kernels.append(tf.stack([query * scale, key, value, residual]))
    first, *further = kernels
    width = first.shape[-1]
    rest = tf.stack(further) if further else tf.zeros([0, PROJECTIONS, width, width])
    return [first, rest, tf.reshape(tf.convert_to_tensor(output), [fields, width])]


def _step(fields: int, embed_dim: int, heads: int, head_dim: int) -> Callable[..., list[np.ndarray]]:
    """Return the compiled step as a function of arrays: the loss, and the gradients of all arguments but the labels.

    With ``learn=False``, it returns the loss alone.
    """
    compiled = training_step(fields, embed_dim, heads, head_dim)

    def step(
        labels: np.ndarray,
        tokens: np.ndarray,
        others: np.ndarray,
        first: np.ndarray,
        further: np.ndarray,
        output: np.ndarray,
        learn: bool = True,
    ) -> list[np.ndarray]:
        kernels = _in_parts(first, fields), _in_parts(further, fields)
        of_rows = aligned(tokens.shape), np.empty_like(others)
        of_kernels = [np.zeros_like(each.swapaxes(-1, -2), order="C") for each in (first, further)]
        of_output = np.zeros_like(output)
        total = compiled(tokens, labels, others, *kernels, output, *of_rows, *of_kernels, of_output, learn)
        loss = np.asarray(total, np.float32)
        return [loss, *of_rows, *(each.swapaxes(-1, -2) for each in of_kernels), of_output] if learn else [loss]

    return step


def _in_parts(kernels: np.ndarray, fields: int) -> np.ndarray:
    """Return kernels [..., 4, inputs, W] side by side in P parts, [..., P, inputs, 4 W / P]."""
    *before, _, inputs, width = kernels.shape
    multiplications = PROJECTIONS * inputs * width * fields * LANES
    parts = next((parts for parts in (1, 2) if multiplications <= parts * _SMALL_PRODUCT), PROJECTIONS)
    split = kernels.reshape(*before, parts, PROJECTIONS // parts, inputs, width)
    return np.ascontiguousarray(split.swapaxes(-3, -2)).reshape(*before, parts, inputs, PROJECTIONS // parts * width)


def _loss(step: Callable[..., list[np.ndarray]], labels: Any, *arguments: Any) -> Any:
    """Return the loss of tensors."""
    import tensorflow as tf

    [loss] = tf.numpy_function(partial(step, learn=False), [labels, *arguments], [tf.float32])
    loss.set_shape([])
    return loss


def _differentiable(step: Callable[..., list[np.ndarray]], labels: Any) -> Callable[..., Any]:
    """Return the loss as a function of tensors that TensorFlow can differentiate once."""
    import tensorflow as tf

    @tf.custom_gradient
    def loss_of(*arguments: Any) -> Any:
        loss, *gradients = tf.numpy_function(step, [labels, *arguments], [tf.float32] * (1 + len(arguments)))
        loss.set_shape([])
        for gradient, argument in zip(gradients, arguments, strict=True):
            gradient.set_shape(argument.shape)
        return loss, lambda upstream: _scaled(gradients, upstream)

    return loss_of


def _scaled(gradients: list[Any], upstream: Any) -> list[Any]:
    import tensorflow as tf

    if tf.get_static_value(upstream) == 1:  # as in every training; TensorFlow would multiply all the same
        return gradients
    return [upstream * gradient for gradient in gradients]
