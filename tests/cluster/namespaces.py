"""Two machines of a network of their own: network namespaces of this machine, with an address each."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

PORT = 6379
CPUS = 3  # of each machine: two workers, and one for Ray's own tasks
_NETWORK = "10.77.0"
_NAMES = ("recommender-a", "recommender-b")
_RAY = str(Path(sys.executable).parent / "ray")
_START_SECONDS = 60
# The cluster asks for it, as docs/cluster.md recommends; and no token of this user's own gets in the way.
_TOKEN = "0123456789abcdef" * 4


class Machines:
    """Two machines with a Ray node each; the head is on the first.

    Attributes:
        address: of the head.
    """

    address = f"{_NETWORK}.1:{PORT}"

    def __init__(self) -> None:
        self._nodes: list[subprocess.Popen[bytes]] = []

    def on_first(self, arguments: list[str]) -> list[str]:
        """The command that runs a command on the first machine."""
        return _inside(_NAMES[0], arguments)

    def disconnect(self) -> None:
        """Pull the second machine's network cable."""
        _ip("-n", _NAMES[1], "link", "set", _NAMES[1], "down")

    def start(self, notices: dict[str, int]) -> None:
        """Start both nodes and wait until they know each other."""
        common = ["--num-cpus", str(CPUS), "--object-store-memory", "300000000", "--disable-usage-stats", "--block"]
        head = ["--head", f"--port={PORT}", "--include-dashboard=false", f"--system-config={json.dumps(notices)}"]
        self._node(0, [*head, *common])
        self._wait(1)
        self._node(1, [f"--address={self.address}", *common])
        self._wait(2)

    def stop(self) -> None:
        """End all processes of both machines."""
        for name in _NAMES:
            pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False).stdout
            for pid in pids.split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        for node in self._nodes:
            node.wait()

    def _node(self, number: int, arguments: list[str]) -> None:
        command = [_RAY, "start", f"--node-ip-address={_NETWORK}.{number + 1}", *arguments]
        quiet = subprocess.DEVNULL
        self._nodes.append(subprocess.Popen(_inside(_NAMES[number], command), stdout=quiet, stderr=quiet))

    def _wait(self, nodes: int) -> None:
        asked = self.on_first([sys.executable, "-c", _COUNT, self.address])
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            found = subprocess.run(asked, capture_output=True, text=True, check=False)
            if found.returncode == 0 and int(found.stdout.split()[-1]) == nodes:
                return
            time.sleep(1)
        raise TimeoutError(f"expected {nodes} Ray nodes: {found.stdout[-500:]} {found.stderr[-500:]}")


_COUNT = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False)
print(sum(node["Alive"] for node in ray.nodes()))
"""


@contextmanager
def machines(notices: dict[str, int]) -> Iterator[Machines]:
    """Make two machines, and remove them at the end; skips where this user may not."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("needs root and the command ip (iproute2) to make network namespaces")
    _remove()
    made = Machines()
    try:
        for name in _NAMES:
            _ip("netns", "add", name)
        _ip("link", "add", _NAMES[0], "netns", _NAMES[0], "type", "veth", "peer", "name", _NAMES[1], "netns", _NAMES[1])
        for number, name in enumerate(_NAMES):
            _ip("-n", name, "address", "add", f"{_NETWORK}.{number + 1}/24", "dev", name)
            for device in ("lo", name):
                _ip("-n", name, "link", "set", device, "up")
        made.start(notices)
        yield made
    finally:
        made.stop()
        _remove()


def _inside(name: str, arguments: list[str]) -> list[str]:
    return ["ip", "netns", "exec", name, "env", "RAY_AUTH_MODE=token", f"RAY_AUTH_TOKEN={_TOKEN}", *arguments]


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _remove() -> None:
    for name in _NAMES:
        subprocess.run(["ip", "netns", "delete", name], stderr=subprocess.DEVNULL, check=False)
