"""Runs that fork from a process which has imported everything, so that an accelerated night spends no time on that.

A run is otherwise the same: a session of its own, with a server that its steps fork from, which is forked too instead
of being started.
"""

import atexit
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import IO

import psutil

from orchestration.config.settings import PROJECT_ROOT
from tests.waiting import until

_POLL_SECONDS = 0.02
_READY = "ready"
_APPENDING = os.O_WRONLY | os.O_CREAT | os.O_APPEND


class WarmRun:
    """A forked run, with what ``subprocess.Popen`` offers of a process.

    Attributes:
        pid: of its process, which leads a session.
    """

    def __init__(self, pid: int, status: Path) -> None:
        self.pid, self._status = pid, status

    def poll(self) -> int | None:
        """Return the exit status; None while the run goes on."""
        if not self._status.exists() and psutil.pid_exists(self.pid):
            return None
        until(self._status.exists)  # the process that waits for the run writes it a moment later
        return int(self._status.read_text())

    def wait(self, timeout: float = float("inf")) -> int:
        """Wait for the end and return the exit status. Raises subprocess.TimeoutExpired."""
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("the run", timeout)
            time.sleep(_POLL_SECONDS)
        return status

    def send_signal(self, number: int) -> None:
        """Send a signal to the run's process."""
        os.kill(self.pid, number)


class WarmStart:
    """The process that runs fork from.

    Args:
        environment: of all its runs.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._folder, self._runs = Path(mkdtemp(dir=_statuses())), 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            env=dict(environment),
            cwd=PROJECT_ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._answer() == _READY

    def run(self, arguments: Sequence[str], log: Path, function: str = "orchestration.cli.execute:main") -> WarmRun:
        """Start a run, or call another function in a process of its own; its output is appended to the log.

        Args:
            arguments: of the function.
            log: file that the output is appended to.
            function: module and name; it gives the exit status.
        """
        self._runs += 1
        status = self._folder / str(self._runs)
        order = {"arguments": list(arguments), "log": str(log), "status": str(status), "function": function}
        _stream(self._process.stdin).write(json.dumps(order) + "\n")
        _stream(self._process.stdin).flush()
        return WarmRun(int(self._answer()), status)

    def stop(self) -> None:
        """End the process; runs that it has started go on."""
        _stream(self._process.stdin).close()
        self._process.wait()

    def _answer(self) -> str:
        return _stream(self._process.stdout).readline().strip()


@cache
def _statuses() -> Path:
    """Return the directory of the runs' exit statuses: not on the home's disk, which may be full."""
    folder = Path(mkdtemp(prefix="soak-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _stream(stream: IO[str] | None) -> IO[str]:
    assert stream
    return stream


def _serve() -> None:
    """Fork a run for each line of the standard input."""
    for module in ("orchestration.cli.launch", "orchestration.preloaded"):
        importlib.import_module(module)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    sys.stdout.write(f"{_READY}\n")
    sys.stdout.flush()
    for line in sys.stdin:
        order = json.loads(line)
        waiting = os.fork()
        if not waiting:
            _watch(order)
        os.waitpid(waiting, 0)


def _watch(order: Mapping[str, str]) -> None:
    """Fork the run from a process that waits for it and writes its exit status."""
    if os.fork():
        os._exit(0)
    pid = os.fork()
    if not pid:
        _run(order)
    sys.stdout.write(f"{pid}\n")
    sys.stdout.flush()
    _, status = os.waitpid(pid, 0)
    written = Path(f"{order['status']}.part")
    written.write_text(str(os.waitstatus_to_exitcode(status)))
    written.rename(order["status"])
    os._exit(0)


def _run(order: Mapping[str, str]) -> None:
    """Be the run."""
    os.setsid()
    for number, stream in ((os.open(os.devnull, os.O_RDONLY), 0), (os.open(order["log"], _APPENDING), 1)):
        os.dup2(number, stream)
    os.dup2(1, 2)
    from multiprocessing import util

    util.spawnv_passfds = _forked
    status = 1
    try:
        module, name = order["function"].split(":")
        status = getattr(importlib.import_module(module), name)(*order["arguments"])
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _forked(path: bytes, arguments: Sequence[str], kept: Sequence[int]) -> int:
    """Do what multiprocessing starts a Python for, in a fork of this process; called instead of its ``spawnv_passfds``.

    Args:
        path: of Python.
        arguments: the last one is the code to execute.
        kept: file descriptors that the process inherits.
    """
    pid = os.fork()
    if pid:
        return pid
    try:
        for number in {int(path.name) for path in Path("/proc/self/fd").iterdir()} - {0, 1, 2, *kept}:
            try:
                os.close(number)
            except OSError:  # that of the listing itself
                continue
        exec(arguments[-1], {})
    finally:
        os._exit(0)


if __name__ == "__main__":
    _serve()
