"""Compile loops over arrays, and keep what was compiled on disk."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numba
from numba.core.caching import FunctionCache

_jit = numba.njit(nogil=True, fastmath={"contract", "nsz", "arcp", "nnan"}, error_model="numpy")


class _OptionalCache(FunctionCache):
    """Numba's cache on disk. Without it, compiling takes seconds longer."""

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


def compile_loops(function: Callable[..., Any]) -> Any:
    """Compile a function at its first call, and cache the result on disk where possible."""
    compiled = _jit(function)
    # Numba raises where neither the module's folder nor the user's cache can be written, as ``cache=True`` would.
    with suppress(RuntimeError):
        compiled._cache = _OptionalCache(function)
    return compiled
