"""Logits of encoded rows and grids by Keras, and their comparison with those of a faster way."""

from threading import Lock
from typing import Protocol

import keras
import numpy as np
from scipy.special import expit

from ml.models.autoint import embedded_positions, inner_network
from ml.models.layers import FieldEmbedding
from ml.models.numerical import PairProducts

_KERAS_BATCH = 8192
COMPARED_ROWS = 256  # rows that are compared with a slow way
_ROUNDING = 3e-4
_DISTINCT = -80, 16  # log-odds between which float32 probabilities differ from 0 and 1


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


def indices_to_compare(network: keras.Model) -> np.ndarray:
    """Sample rows of indices that a network knows, int32 [rows, fields]; zeros for fields that it does not use."""
    inner = inner_network(network)
    sizes = np.ones(network.inputs[0].shape[1], np.int64)
    for layer in (*network.layers, *inner.layers):
        if isinstance(layer, PairProducts):
            sizes[list(layer.positions)] = layer.sizes
        if isinstance(layer, FieldEmbedding):
            sizes[embedded_positions(inner)] = layer.field_dims
    return np.random.default_rng(0).integers(sizes, size=(COMPARED_ROWS, len(sizes)), dtype=np.int32)


def difference(found: np.ndarray, expected: np.ndarray) -> float | None:
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


class KerasOutput:
    """Computes a network's only output with Keras, in one thread at a time: ``predict`` is not made for several."""

    def __init__(self, network: keras.Model) -> None:
        self._network, self._running = network, Lock()

    def of(self, indices: np.ndarray, numbers: np.ndarray | None = None) -> np.ndarray:
        """The output of rows, float32 [rows, 1]; arguments as in ``Forward.logits``."""
        if not len(indices):
            return np.empty((0, 1), np.float32)  # Keras cannot predict nothing
        inputs = indices if numbers is None else [indices, numbers]
        with self._running:
            output: np.ndarray = self._network.predict(inputs, batch_size=_KERAS_BATCH, verbose=0)
        return output


class KerasForward:
    """Runs the network with Keras; it has to give probabilities [rows, 1]."""

    def __init__(self, network: keras.Model) -> None:
        self._probabilities = KerasOutput(network)

    def logits(self, indices: np.ndarray, numbers: np.ndarray | None = None) -> np.ndarray:
        """See ``Forward``."""
        return log_odds(self._probabilities.of(indices, numbers))

    def grid(self, column_fields: np.ndarray, column_indices: np.ndarray) -> Grid:
        """See ``Forward``."""
        return JoinedGrid(self, column_fields, column_indices)


def log_odds(probabilities: np.ndarray) -> np.ndarray:
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
        indices[:, :, other_positions(self._column_fields, fields)] = row_indices[:, None]
        indices[:, :, self._column_fields] = self._column_codes
        return self._forward.logits(indices.reshape(-1, fields)).reshape(shape)


def other_positions(fields: np.ndarray, count: int) -> np.ndarray:
    """Positions below ``count`` that are not among ``fields``."""
    return np.setdiff1d(np.arange(count), fields)
