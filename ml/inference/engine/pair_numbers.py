"""The collaborative features of pairs, from the tables inside a network."""

import keras
import numpy as np

from ml.compiled.loops import compile_loop
from ml.models.numerical import PairProducts


class PairNumbers:
    """Inner products of two tables' rows, as ``PairProducts`` computes them; none for a network without this layer.

    Attributes:
        count: how many there are of a pair.
        positions: of the left and the right index in a row.
    """

    def __init__(self, network: keras.Model) -> None:
        layers = [layer for layer in network.layers if isinstance(layer, PairProducts)]
        self.count = 0
        self.positions: tuple[int, ...] = (0, 0)
        if layers:
            [products] = layers
            self.count, self.positions = len(products.widths), products.positions
            self._ends = np.cumsum([0, *products.widths])
            self._left, self._right = np.asarray(products.left), np.asarray(products.right)

    def of(self, indices: np.ndarray) -> np.ndarray:
        """Features, float32 [rows, count], of indices int32 [rows, fields]."""
        out = np.empty((len(indices), self.count), np.float32)
        if self.count:
            left, right = (np.ascontiguousarray(indices[:, position]) for position in self.positions)
            _products(left, right, self._left, self._right, self._ends, out)
        return out

    def of_grid(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        """Features of all pairs of left indices int [n] and right indices int [m], float32 [n, count, m]."""
        out = np.empty((len(left), self.count, len(right)), np.float32)
        for number in range(self.count):
            columns = slice(self._ends[number], self._ends[number + 1])
            out[:, number] = self._left[left, columns] @ self._right[right, columns].T
        return out


@compile_loop
def _products(
    left_indices: np.ndarray,
    right_indices: np.ndarray,
    left: np.ndarray,
    right: np.ndarray,
    ends: np.ndarray,
    out: np.ndarray,
) -> None:
    """``out[b, s] = sum of left[left_indices[b], c] right[right_indices[b], c]``, c from ``ends[s]`` to its next."""
    for b in range(out.shape[0]):
        for s in range(out.shape[1]):
            total = np.float32(0)
            for c in range(ends[s], ends[s + 1]):
                total += left[left_indices[b], c] * right[right_indices[b], c]
            out[b, s] = total
