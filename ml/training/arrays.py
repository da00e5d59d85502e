"""Arrays that TensorFlow takes without a copy."""

import math

import numpy as np

_ALIGNMENT = 64  # bytes


def aligned(shape: tuple[int, ...]) -> np.ndarray:
    """Return an uninitialized float32 array that begins where TensorFlow takes it without a copy."""
    size, step = math.prod(shape), _ALIGNMENT // np.dtype(np.float32).itemsize
    space = np.empty(size + step, np.float32)
    start = -space.ctypes.data % _ALIGNMENT // space.itemsize
    return space[start : start + size].reshape(shape)
