"""Run every command of the pages on small data in a separate home (``make test-docs``)."""

import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from orchestration.config.settings import PROJECT_ROOT
from tests.docs.pages import Command, commands
from tests.docs.running import How, rule_of
from tests.small_home import small_home

pytestmark = pytest.mark.docs

FIRST = ("make run", "make run RETRAIN=1")  # all others need these
COMMAND_SECONDS, START_SECONDS = 900, 180


def of(how: How) -> list[Command]:
    """Return the commands that are tested in this way, each once."""
    found = {command.text: command for command in commands() if (rule := rule_of(command)) and rule.how is how}
    return list(found.values())


def name_of(command: Command) -> str:
    return f"{command.page}-{command.text.splitlines()[0]}"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of a home with two runs, so that there is an earlier champion."""
    variables = {**os.environ, **small_home(tmp_path_factory.mktemp("docs"))}
    for command in FIRST:
        run(command, variables)
    return variables


@pytest.mark.parametrize(
    "command",
    [command for command in of(How.HERE) if command.text not in FIRST and "curl" not in command.text],
    ids=name_of,
)
def test_command_succeeds(command: Command, environment: Mapping[str, str]) -> None:
    if command.language == "python":
        text = in_home(command.text, environment)
        with tracking_server(command, environment):
            run(shlex.join([sys.executable, "-c", text]), environment)
    else:
        run(in_home(command.text, environment), environment)


@pytest.mark.parametrize("command", of(How.SERVER), ids=name_of)
def test_server_answers_and_ends(command: Command, environment: Mapping[str, str]) -> None:
    with started(command, environment) as addresses:
        for address in addresses:
            assert answer(address) < 500


@pytest.mark.parametrize("command", [c for c in of(How.HERE) if c.text.startswith("curl")], ids=name_of)
def test_answer_to_curl(command: Command, environment: Mapping[str, str]) -> None:
    [server] = [c for c in of(How.SERVER) if c.page == command.page and port_of(c.text) == port_of(command.text)]
    with started(server, environment):
        assert run(in_home(f"{command.text} --fail-with-body", environment), environment)


@pytest.mark.parametrize("command", of(How.MINUTES), ids=name_of)
def test_make_knows_what_to_do(command: Command) -> None:
    done = run(command.text.replace("make ", "make --dry-run "), os.environ)
    assert " -m " in done or "awk" in done


def run(command: str, variables: Mapping[str, str]) -> str:
    """Return what a command prints; fail the test if it does not succeed."""
    done = subprocess.run(
        ["bash", "-ceu", command],
        cwd=PROJECT_ROOT,
        env=dict(variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=COMMAND_SECONDS,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-4000:]}"
    return done.stdout


def in_home(text: str, variables: Mapping[str, str]) -> str:
    """The command about the small data set, the test's home and its ports."""
    text = (
        text.replace("ml-1m", "synthetic-small")
        .replace("$PWD/var", variables["PIPELINE_HOME"])
        .replace("var/exports", f"{variables['PIPELINE_HOME']}/exports")
        .replace("VERSION=3", "VERSION=1")
    )
    text = text.replace("top_k=10)", f"top_k=10, home={variables['PIPELINE_HOME']!r})")
    for documented, name in DOCUMENTED_PORTS.items():
        text = text.replace(f":{documented}", f":{variables[name]}").replace(
            f"--port {documented}", f"--port {variables[name]}"
        )
    return text


DOCUMENTED_PORTS = {"8000": "SERVE_PORT", "5000": "MLFLOW_PORT", "5001": "APP_PORT"}
_ADDRESSES = {
    "make ui": ("DAGSTER_PORT", "MLFLOW_PORT"),
    "make app": ("APP_PORT",),
    "make serve": ("SERVE_PORT",),
    "make metrics": ("METRICS_PORT",),
}
_PAGES = {"make serve": "readyz", "make metrics": "metrics"}  # the service responds before its tables are loaded


def port_of(text: str) -> str:
    if text == "make serve":
        return "8000"
    return next((port for port in ("8000", "5001") if port in text), "")


@contextmanager
def tracking_server(command: Command, variables: Mapping[str, str]) -> Iterator[None]:
    """Start ``make ui`` for a command that loads a registered model from its tracking server."""
    if "127.0.0.1:5000" not in command.text:
        yield
        return
    with started(next(c for c in of(How.SERVER) if c.text == "make ui"), variables):
        yield


@contextmanager
def started(command: Command, variables: Mapping[str, str]) -> Iterator[list[str]]:
    """Start a server, wait until it responds, and return its addresses; stop it with the signal of Ctrl-C."""
    with tracking_server(command, variables):
        yield from _started(command, variables)


def _started(command: Command, variables: Mapping[str, str]) -> Iterator[list[str]]:
    names = _ADDRESSES.get(command.text) or ("APP_PORT",)
    page = _PAGES.get(command.text, "")
    addresses = [f"http://127.0.0.1:{variables[name]}/{page}" for name in names]
    text = in_home(command.text, variables)
    if "streamlit" in text:
        text += f" --server.port {variables['APP_PORT']}"
    process = subprocess.Popen(
        ["bash", "-ceu", f"exec {text}" if "=" not in text.split()[0] else text],
        cwd=PROJECT_ROOT,
        env=dict(variables),
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not all(0 < answer(address) < 500 for address in addresses):
            assert process.poll() is None, f"{command.text} ended"
            assert time.monotonic() < deadline, f"{command.text} does not answer"
            time.sleep(0.5)
        yield addresses
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def answer(address: str) -> int:
    """Return the HTTP status; 0 if there is no response."""
    try:
        with urllib.request.urlopen(address, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0
