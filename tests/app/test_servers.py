"""Test what ``make app`` and ``make serve`` listen on, and their errors if the address is not available."""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import httpx
import psutil
import pytest

from app.service import __main__ as service
from app.web import __main__ as web
from orchestration.config.settings import PROJECT_ROOT
from tests.browser import answers, server
from tests.published_home import DATASET
from tests.waiting import free_port, until


@pytest.mark.parametrize(
    ("main", "variables", "reason"),
    [
        (service.main, {"SERVE_HOST": "no such host"}, "set SERVE_HOST or SERVE_PORT"),
        (service.main, {"SERVE_HOST": "192.0.2.1", "SERVE_PORT": "8000"}, "set SERVE_HOST or SERVE_PORT"),
        (service.main, {"SERVE_PORT": "70000"}, "SERVE_PORT"),
        (service.main, {"SERVE_HOST": "0.0.0.0", "SERVE_PORT": "{port}"}, "set SERVE_KEYS_FILE to it"),
        (service.main, {"SERVE_HOST": "::", "SERVE_PORT": "{port}"}, "opens the service to other machines"),
        (
            service.main,
            {"SERVE_KEYS_FILE": "no/such/file", "SERVE_PORT": "{port}"},
            "no/such/file: the API keys cannot",
        ),
        (
            service.main,
            {"SERVE_KEYS_FILE": "LICENSE", "SERVE_PORT": "{port}"},
            "LICENSE, line 2: expected <name>: <key>",
        ),
        (service.main, {"SERVE_TRACES": "perhaps"}, "SERVE_TRACES='perhaps'"),
        (web.main, {"APP_PORT": "70000"}, "APP_PORT"),
    ],
)
def test_unavailable_address_is_a_one_line_error(
    main: Callable[[], int],
    variables: dict[str, str],
    reason: str,
    settings: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in variables.items():
        settings.setenv(name, value.format(port=free_port()))
    assert main() == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert reason in line


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "setting", "page"), [("app.service", "SERVE_PORT", "healthz"), ("app.web", "APP_PORT", "_stcore/health")]
)
def test_servers_listen_only_on_this_machine(module: str, setting: str, page: str, published_home: Path) -> None:
    port = free_port()
    variables = {"PIPELINE_HOME": published_home, "SERVE_DATASET": DATASET, setting: port}
    with server(module, f"http://127.0.0.1:{port}/{page}", variables):
        processes = psutil.Process().children(recursive=True)
        found = [each for process in processes for each in process.net_connections() if each.status == "LISTEN"]
    assert port in {each.laddr.port for each in found}
    assert all(ip_address(each.laddr.ip).is_loopback for each in found)


@pytest.mark.slow
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_nothing_stays_on_the_port_of_a_web_app_that_was_told_to_end(
    signum: signal.Signals, published_home: Path
) -> None:
    port = free_port()
    address = f"http://127.0.0.1:{port}/_stcore/health"
    variables = {"PIPELINE_HOME": str(published_home), "SERVE_DATASET": DATASET, "APP_PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, "-m", "app.web"], cwd=PROJECT_ROOT, env={**os.environ, **variables}, stdout=subprocess.DEVNULL
    )
    until(lambda: answers(address))
    [child] = psutil.Process(process.pid).children()
    process.send_signal(signum)
    assert process.wait(60) == 0
    assert not child.is_running()
    assert not answers(address)


@pytest.mark.slow
def test_service_that_is_open_to_other_machines_asks_for_keys(published_home: Path, tmp_path: Path) -> None:
    port, key = free_port(), secrets.token_hex(32)
    (tmp_path / "keys").write_text(f"shop: {key}\n")
    variables = {
        "PIPELINE_HOME": published_home, "SERVE_HOST": "0.0.0.0", "SERVE_PORT": port,
        "SERVE_KEYS_FILE": tmp_path / "keys",
    }  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    with server("app.service", f"{address}/healthz", variables):
        assert httpx.get(f"{address}/models").status_code == 401
        headers = {"Authorization": f"Bearer {key}"}
        until(lambda: httpx.get(f"{address}/models", headers=headers).status_code == 200)
        (tmp_path / "new").write_text(f"shop: {secrets.token_hex(32)}\n")
        (tmp_path / "new").rename(tmp_path / "keys")
        until(lambda: httpx.get(f"{address}/models", headers=headers).status_code == 401)


@pytest.mark.slow
def test_service_answers_on_ipv6(published_home: Path) -> None:
    port = free_port()
    variables = {"PIPELINE_HOME": published_home, "SERVE_HOST": "::1", "SERVE_PORT": port}
    address = f"http://[::1]:{port}/healthz"
    with server("app.service", address, variables):
        assert answers(address)
