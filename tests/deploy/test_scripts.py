"""The scripts beside the Dockerfile: what they run, and their errors."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from orchestration.config.settings import PROJECT_ROOT
from tests.waiting import free_port

# In place of Docker: records its arguments; an image has a bill of materials and a size.
DOCKER = """#!/bin/sh
echo "$@" >> "{record}"
case "$1 $2" in
  "run --rm") echo '{{"bomFormat": "CycloneDX"}}' ;;
  "image inspect") echo 1234 ;;
  "build --file") exit {status} ;;
esac
"""


def script(name: str, *arguments: str, path: str = "") -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, f"deploy/{name}.py", *arguments]
    return subprocess.run(command, cwd=PROJECT_ROOT, env={"PATH": path}, capture_output=True, text=True, check=False)


def docker(folder: Path, status: int = 0) -> Path:
    """Put a Docker that records its arguments into the folder."""
    record, program = folder / "record", folder / "docker"
    program.write_text(DOCKER.format(record=record, status=status), "utf-8")
    program.chmod(0o755)
    return record


@pytest.fixture
def port() -> Iterator[int]:
    """A server that is alive at /alive and nowhere else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(HTTPStatus.OK if self.path == "/alive" else HTTPStatus.SERVICE_UNAVAILABLE)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_health_check_passes_only_with_status_200(port: int) -> None:
    assert script("healthcheck", str(port), "/alive").returncode == 0
    failed = script("healthcheck", str(port), "/readyz")
    assert (failed.returncode, failed.stderr) == (1, f"port {port}: status 503 for /readyz\n")


def test_health_check_fails_where_nothing_listens() -> None:
    port = free_port()
    failed = script("healthcheck", str(port), "/alive")
    assert failed.returncode == 1
    assert f"port {port}: no answer to /alive" in failed.stderr


def test_build_passes_arguments_and_secrets_and_keeps_the_bill_of_materials(tmp_path: Path) -> None:
    record, out, config = docker(tmp_path), tmp_path / "out", tmp_path / "pip.conf"
    config.touch()
    options = ("--base", "debian@sha256:0", "--extras", "serve", "--pip-conf", str(config), "--out", str(out))
    built = script("images", "service", *options, path=f"{tmp_path}:/usr/bin:/bin")
    assert built.returncode == 0, built.stderr
    [build, *_] = record.read_text("utf-8").splitlines()
    for part in (
        "--target service",
        "--tag recommender-service:latest",
        "--build-arg BASE=debian@sha256:0",
        "--build-arg EXTRAS=serve",
        f"--secret id=pip.conf,src={config}",
    ):
        assert part in build
    assert json.loads((out / "service.cdx.json").read_text("utf-8")) == {"bomFormat": "CycloneDX"}
    assert json.loads((out / "service.json").read_text("utf-8"))["bytes"] == 1234


def test_failed_build_leaves_no_bill_of_materials(tmp_path: Path) -> None:
    docker(tmp_path, status=3)
    failed = script("images", "app", "--out", str(tmp_path / "out"), path=f"{tmp_path}:/usr/bin:/bin")
    assert failed.returncode == 3
    assert "recommender-app:latest was not built" in failed.stderr
    assert not [*(tmp_path / "out").iterdir()]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((), "none of docker, podman, buildah is on the PATH"),
        (("servce",), "servce: expected some of pipeline, service, app"),
        (("--pip-conf", "/no/such/file"), "/no/such/file: no such file"),
        (("--extras", "serve"), "name the one target"),
    ],
)
def test_wrong_use_is_an_error_that_says_what_to_do(arguments: tuple[str, ...], reason: str) -> None:
    failed = script("images", *arguments)
    assert failed.returncode != 0
    assert reason in failed.stderr
    assert "Traceback" not in failed.stderr


def test_an_extra_that_is_not_there_stops_the_build() -> None:
    command = ["sh", "deploy/install.sh", "serve,servces"]
    failed = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert failed.returncode != 0
    assert "EXTRAS=serve,servces: pyproject.toml has no servces" in failed.stderr
