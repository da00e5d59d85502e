"""Start the Dagster and MLflow UIs and stop them together: ``python -m orchestration.ui`` (``make ui``)."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ml.errors import DataError
from orchestration.instance import use_instance
from orchestration.ports import require_free
from orchestration.registry import runs_page, server_command
from orchestration.settings import PROJECT_ROOT, Settings

_HOST = "127.0.0.1"
_START_SECONDS = 120
_STOP_SECONDS = 20


def main() -> int:
    """Serve until Ctrl-C or SIGTERM, or until a server ends; gives the exit status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have had it ignored
    settings = Settings()
    servers: list[subprocess.Popen[bytes]] = []
    try:
        for name, port in (("DAGSTER_PORT", settings.dagster_port), ("MLFLOW_PORT", settings.mlflow_port)):
            require_free(_HOST, port, name)
        home = use_instance()
        _say("Starting ...")
        logs = settings.local_home / "logs"
        servers.append(_start(_dagster(settings), logs / "dagster.log"))
        servers.append(_start(_mlflow(settings), logs / "mlflow.log"))
        _wait_until_ready(servers, (settings.dagster_port, settings.mlflow_port), logs)
        _say(f"Dagster  http://{_HOST}:{settings.dagster_port}  (webserver and daemon; instance {home})")
        _say(f"MLflow   {runs_page()}")
        _say("Ctrl-C stops both.")
        while all(server.poll() is None for server in servers):
            time.sleep(0.5)
        _say(f"A server ended by itself; see {logs}.")
        return 1
    except DataError as error:
        _say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        _say("Stopping ...")
        return 0
    finally:
        _stop(servers)


def _dagster(settings: Settings) -> list[str]:
    address = ["--host", _HOST, "--port", str(settings.dagster_port)]
    return [sys.executable, "-m", "dagster", "dev", "--workspace", str(PROJECT_ROOT / "workspace.yaml"), *address]


def _mlflow(settings: Settings) -> list[str]:
    return server_command("--host", _HOST, "--port", str(settings.mlflow_port))


def _start(command: Sequence[str], log: Path) -> "subprocess.Popen[bytes]":
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        # A session of its own, so that Ctrl-C reaches the servers through _stop only, once.
        return subprocess.Popen(  # noqa: S603
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=PROJECT_ROOT,
            # MLflow's workers for evaluation jobs have nothing to do here, and would outlive their server by seconds.
            env={
                **os.environ,
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_DISABLE_TELEMETRY": "true",
            },
            start_new_session=True,
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


if __name__ == "__main__":
    sys.exit(main())
