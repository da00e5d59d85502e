"""Wait for what another thread or process does, and find a port for it."""

import socket
import time
from collections.abc import Callable

SECONDS = 60


def until(holds: Callable[[], bool], seconds: float = SECONDS) -> None:
    """Return as soon as it holds; fail where it does not in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)


def free_port() -> int:
    """A port of 127.0.0.1 that nothing uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
