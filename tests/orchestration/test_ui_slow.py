import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.config.settings import PROJECT_ROOT
from tests.waiting import free_port

pytestmark = pytest.mark.slow

START_SECONDS, STOP_SECONDS = 180, 60


class Ui:
    """The command as a child process, whose output is read as it comes."""

    def __init__(self, folder: Path, dagster_port: int, mlflow_port: int) -> None:
        self.addresses = [f"http://127.0.0.1:{port}" for port in (dagster_port, mlflow_port)]
        ports = {"DAGSTER_PORT": str(dagster_port), "MLFLOW_PORT": str(mlflow_port)}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "orchestration", "ui"],
            cwd=PROJECT_ROOT,
            env={**os.environ, "PIPELINE_HOME": str(folder), "DAGSTER_HOME": str(folder / "dagster"), **ports},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    @property
    def output(self) -> str:
        return "".join(self.lines)

    def wait_for_addresses(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not all(address in self.output for address in self.addresses):
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, self.output
            time.sleep(0.2)

    def end(self, signal_number: int) -> int:
        self.process.send_signal(signal_number)
        return self.wait()

    def wait(self) -> int:
        status = self.process.wait(STOP_SECONDS)
        self._reader.join(STOP_SECONDS)
        return status


def processes() -> dict[int, int]:
    """Parents of all living processes by process."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return {int(pid): int(parent) for pid, parent, state in rows if not state.startswith("Z")}


def descendants(ancestor: int) -> set[int]:
    parents = processes()
    found = {ancestor}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {ancestor}


def listens(address: str) -> bool:
    host, port = address.removeprefix("http://").split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


@pytest.fixture
def ui(tmp_path: Path) -> Iterator[Ui]:
    started = Ui(tmp_path / "home", free_port(), free_port())
    yield started
    children = descendants(started.process.pid)
    for pid in (started.process.pid, *children) if started.process.poll() is None else ():
        os.kill(pid, signal.SIGKILL)
    started.process.wait()


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_both_servers_start_and_stop_together(ui: Ui, signal_number: int) -> None:
    ui.wait_for_addresses()
    for address in ui.addresses:
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert answer.status == 200
            assert b"<html" in answer.read().lower()
    children = descendants(ui.process.pid)
    assert len(children) >= 3  # Dagster's webserver and daemon, and MLflow

    assert ui.end(signal_number) == 0, ui.output
    assert not any(listens(address) for address in ui.addresses)
    deadline = time.monotonic() + 10  # Dagster's code server sees its parent gone and ends by itself
    while (left := children & set(processes())) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert left == set()


@pytest.mark.parametrize("name", ["DAGSTER_PORT", "MLFLOW_PORT"])
def test_port_in_use_is_named(tmp_path: Path, name: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ports = {"DAGSTER_PORT": free_port(), "MLFLOW_PORT": free_port()} | {name: port}
        ui = Ui(tmp_path / "home", ports["DAGSTER_PORT"], ports["MLFLOW_PORT"])
        assert ui.wait() == 1
    assert f"port {port} is in use" in ui.output
    assert name in ui.output
    assert "Traceback" not in ui.output
