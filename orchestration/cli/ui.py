"""Start the Dagster and MLflow UIs and stop them together: ``make ui``.

Where MLFLOW_TRACKING_URI is a server's address, only Dagster is started.
"""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from ml.errors import DataError
from orchestration.config.data_sets import (
    add_partition,
    chosen,
    default_data_set,
    last_source,
    scheduled_data_sets,
    sources,
)
from orchestration.config.settings import PROJECT_ROOT, settings
from orchestration.config.tracking_config import is_server
from orchestration.runtime.instance import use_instance
from orchestration.runtime.ports import require_free
from orchestration.tracking.registry import configuration, runs_page, server_command

_HOST = "127.0.0.1"
_START_SECONDS = 120
_STOP_SECONDS = 20


def main() -> int:
    """Serve until Ctrl-C or SIGTERM, or until a server exits; gives the exit status. Raises DataError."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have set it to be ignored
    with _alone() as lock:
        return _serve(lock)


@contextmanager
def _alone() -> Iterator[int]:
    """Allow one ``make ui`` per instance: two daemons would launch each scheduled run twice.

    Yields:
        The lock's file descriptor. A child that inherits it keeps the lock, even after this process ends.

    Raises:
        DataError: another one is running; names its addresses.
    """
    home = use_instance()
    with (home / "ui.lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise DataError(
                f"make ui is running already in {home} ({lock.read().strip()}); use that one, or stop it first"
            ) from None
        lock.truncate(0)
        lock.write(_addresses())
        lock.flush()
        yield lock.fileno()


def _addresses() -> str:
    dagster, mlflow = (f"http://{_HOST}:{port}" for port in (settings().dagster_port, settings().mlflow_port))
    uri = configuration("any").tracking_uri
    return f"process {os.getpid()}, Dagster {dagster}, MLflow {uri if is_server(uri) else mlflow}"


def _scheduled() -> str:
    """The data sets of scheduled runs, and what chose them. Raises DataError."""
    names = ", ".join(scheduled_data_sets())
    if settings().schedule_datasets:
        return f"{names} (SCHEDULE_DATASETS)"
    if spec := chosen():
        return f"{names} ({'DATASET' if settings().dataset else 'MOVIELENS_DIR'}={spec})"
    last = last_source()
    return f"{names} (source {last.source}, of the last make run)" if last else f"{names} (until the first make run)"


def offer_data_sets() -> None:
    """Let the UI offer every data set of the home. Raises DataError."""
    with dg.DagsterInstance.get() as instance:
        add_partition(instance, default_data_set(), *sources())


def _serve(lock: int) -> int:
    servers: list[subprocess.Popen[bytes]] = []
    try:
        ports = {"DAGSTER_PORT": settings().dagster_port}
        if not is_server(configuration("any").tracking_uri):
            ports["MLFLOW_PORT"] = settings().mlflow_port
        for name, port in ports.items():
            require_free(_HOST, port, name)
        _say("Starting ...")
        scheduled = _scheduled()
        offer_data_sets()
        logs = settings().local_home / "logs"
        servers.append(_start(_dagster(), logs / "dagster.log", lock))
        if "MLFLOW_PORT" in ports:
            servers.append(_start(_mlflow(), logs / "mlflow.log"))
        _wait_until_ready(servers, [*ports.values()], logs)
        _say(f"Dagster  http://{_HOST}:{settings().dagster_port}  (webserver and daemon)")
        _say(f"Dagster's own commands find the same with  export DAGSTER_HOME={settings().instance_home}")
        _say(f"MLflow   {runs_page()}")
        _say(f"Nightly  {scheduled}")
        _say(f"Ctrl-C stops {'both' if len(servers) > 1 else 'Dagster'}.")
        while all(server.poll() is None for server in servers):
            time.sleep(0.5)
        _say(f"A server exited unexpectedly; see {logs}.")
        return 1
    except KeyboardInterrupt:
        _say("Stopping ...")
        return 0
    finally:
        _stop(servers)


def _dagster() -> list[str]:
    address = ["--host", _HOST, "--port", str(settings().dagster_port)]
    return [sys.executable, "-m", "dagster", "dev", "--workspace", str(PROJECT_ROOT / "workspace.yaml"), *address]


def _mlflow() -> list[str]:
    return server_command("--host", _HOST, "--port", str(settings().mlflow_port))


def _start(command: Sequence[str], log: Path, *inherited: int) -> "subprocess.Popen[bytes]":
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        # A session of its own, so that Ctrl-C reaches the servers only through _stop.
        return subprocess.Popen(  # noqa: S603
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=PROJECT_ROOT,
            # MLflow's workers for evaluation jobs are not needed, and would outlive their server by seconds.
            env={
                **os.environ,
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_DISABLE_TELEMETRY": "true",
            },
            start_new_session=True,
            pass_fds=inherited,
        )


def _wait_until_ready(servers: Sequence["subprocess.Popen[bytes]"], ports: Sequence[int], logs: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    for port in ports:
        while not _answers(port):
            if any(server.poll() is not None for server in servers):
                raise DataError(f"a server did not start; see {logs}")
            if time.monotonic() > deadline:
                raise DataError(f"nothing answers on port {port} after {_START_SECONDS} s; see {logs}")
            time.sleep(0.3)


def _answers(port: int) -> bool:
    try:
        socket.create_connection((_HOST, port), timeout=1).close()
    except OSError:
        return False
    return True


def _stop(servers: Sequence["subprocess.Popen[bytes]"]) -> None:
    for server in servers:
        server.send_signal(signal.SIGTERM)
    for server in servers:
        try:
            server.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
