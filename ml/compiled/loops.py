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
_FLAGS = frozenset({"contract", "nsz", "arcp"})  # without "reassoc", which would cancel _MAGIC


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


def compile_loop(function: Callable[..., Any], nans: bool = False) -> Any:
    """Compile a function at its first call, and cache the result on disk where possible.

    Args:
        function: loops over NumPy arrays.
        nans: whether NaN is an expected value, which costs some speed. Otherwise, it may come out as any number.

    Returns:
        The compiled function.
    """
    flags = _FLAGS if nans else _FLAGS | {"nnan"}
    compiled = numba.njit(function, nogil=True, fastmath=set(flags), error_model="numpy")
    # Numba raises where neither the module's folder nor the user's cache can be written, as ``cache=True`` would.
    with suppress(RuntimeError):
        compiled._cache = _OptionalCache(function)
    return compiled
