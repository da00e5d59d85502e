"""Wait for what another thread or process does."""

import time
from collections.abc import Callable

SECONDS = 60


def until(holds: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Return as soon as it holds; fail where it does not in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
