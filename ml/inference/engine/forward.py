"""Choose how a network's logits are computed: as fast as the processor allows, or by Keras."""

import logging

import keras

from ml.inference.engine.autoint_forward import AutoIntForward
from ml.inference.engine.keras_forward import Forward, KerasForward, difference, indices_to_compare, log_odds
from ml.models.autoint import like_network

_log = logging.getLogger(__name__)


def forward_of(network: keras.Model) -> Forward:
    """Choose the fastest forward pass that gives this network's values.

    ``AutoIntForward`` accepts a network by its layers' names and classes. Its values are compared with Keras's on some
    rows; where they differ, Keras runs the network, and the log says so. Of a multi-task network, only the like counts.
    """
    network = like_network(network)
    exact = KerasForward(network)
    if not AutoIntForward.supports(network):
        return exact
    indices = indices_to_compare(network)
    try:
        forward = AutoIntForward(network)
        found = forward.logits(indices)
    except (ValueError, LookupError, AttributeError, TypeError) as error:  # of other shapes than the builders'
        _log.warning("%s: has layers of AutoInt in an unknown arrangement (%s); Keras runs it", network.name, error)
        return exact
    expected = log_odds(keras.ops.convert_to_numpy(network(indices, training=False)))
    if apart := difference(found, expected):
        _log.warning(
            "%s: the fast scorer's log-odds differ by up to %.3g from Keras's; Keras runs it", network.name, apart
        )
        return exact
    return forward
