"""Compile loops over arrays with numba."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core.caching import FunctionCache

LANES = 16  # rows that are adjacent in memory, so that each innermost loop becomes vector instructions
_PACKAGE = Path(__file__).parent
_MAGIC = np.float32(1.5 * 2**23)  # added to a small number, it leaves the nearest integer in the lowest bits
# What LLVM may assume of floating-point numbers. Not "reassoc", which would cancel _MAGIC and spoil exp2.
WITH_NANS = frozenset({"contract", "nsz", "arcp"})
FAST = WITH_NANS | {"nnan"}  # NaN may come out as any number
EXACT: frozenset[str] = frozenset()


class _OptionalCache(FunctionCache):
    """Numba's cache on disk. Without it, compiling takes seconds longer."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)
        # Compiled code includes functions of this package, so that it is stale when a module of the package changes.
        own = [(path.stat().st_mtime, path.stat().st_size) for path in sorted(_PACKAGE.glob("*.py"))]
        self._cache_file._source_stamp = (self._cache_file._source_stamp, *own)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """The cached code of a signature; None where there is none, or it cannot be read."""
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # numba raises many kinds for a damaged file, which is replaced
            with suppress(OSError):
                self.flush()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Cache compiled code where the disk can be written."""
        with suppress(OSError):
            super().save_overload(sig, data)


def compile_loop(function: Callable[..., Any], flags: frozenset[str] = FAST) -> Any:
    """Compile a function at its first call, and cache the result on disk where possible.

    Args:
        function: loops over NumPy arrays.
        flags: FAST, WITH_NANS or EXACT.

    Returns:
        The compiled function.
    """
    compiled = numba.njit(function, nogil=True, fastmath=set(flags), error_model="numpy")
    # Numba raises where neither the module's folder nor the user's cache can be written, as ``cache=True`` would.
    with suppress(RuntimeError):
        compiled._cache = _OptionalCache(function)
    return compiled


@compile_loop
def exp2(x: np.float32) -> np.float32:
    """2^x for x <= 0: 2^n by its bits and 2^r, |r| <= 1/2, by the Taylor polynomial of degree 6."""
    x = max(x, np.float32(-126))  # 2^x of less is below float32's normal range
    shifted = x + _MAGIC
    r = (x - (shifted - _MAGIC)) * np.float32(0.6931471805599453)
    p = np.float32(1 / 720)
    p = p * r + np.float32(1 / 120)
    p = p * r + np.float32(1 / 24)
    p = p * r + np.float32(1 / 6)
    p = p * r + np.float32(0.5)
    p = p * r + np.float32(1)
    p = p * r + np.float32(1)
    exponent = np.int32(np.float32(shifted).view(np.int32) << np.int32(23))
    return np.int32(np.float32(p).view(np.int32) + exponent).view(np.float32)
