"""The collaborative features of pairs, from the tables inside a network."""

from copy import copy

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
        self._left = self._right = np.empty((0, 0), np.float32)
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

    def with_right(self, indices: np.ndarray) -> "PairNumbers":
        """The same with the right table's rows in the order of these indices int [m], which count from 0 then."""
        new = copy(self)
        if self.count:
            new._right = self._right[indices]
        return new

    def of_grid(self, left: np.ndarray, right: np.ndarray | slice) -> np.ndarray:
        """Features of all pairs, float32 [n, count, m].

        Args:
            left: indices int [n].
            right: indices int [m]; or a slice with its first and its end, which takes no copy of the table's rows.
        """
        width = right.stop - right.start if isinstance(right, slice) else len(right)
        out = np.empty((len(left), self.count, width), np.float32)
        for number in range(self.count):
            columns = slice(self._ends[number], self._ends[number + 1])
            np.matmul(self._left[left, columns], self._right[right, columns].T, out=out[:, number])
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
    last = out.shape[0] - 1
    for b in range(0, last + 1, 4):  # sums of several pairs at once need not wait for one another
        b1, b2, b3 = min(b + 1, last), min(b + 2, last), min(b + 3, last)
        left0, left1, left2, left3 = left_indices[b], left_indices[b1], left_indices[b2], left_indices[b3]
        right0, right1, right2, right3 = right_indices[b], right_indices[b1], right_indices[b2], right_indices[b3]
        for s in range(out.shape[1]):
            total0 = total1 = total2 = total3 = np.float32(0)
            for c in range(ends[s], ends[s + 1]):
                total0 += left[left0, c] * right[right0, c]
                total1 += left[left1, c] * right[right1, c]
                total2 += left[left2, c] * right[right2, c]
                total3 += left[left3, c] * right[right3, c]
            out[b, s], out[b1, s], out[b2, s], out[b3, s] = total0, total1, total2, total3
