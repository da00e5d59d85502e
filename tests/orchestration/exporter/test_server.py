"""Who gets an answer from the exporter, and the command that serves it."""

import os
import signal
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.parser import text_string_to_metric_families

from orchestration.__main__ import main
from orchestration.exporter.server import serving
from tests.waiting import free_port, until


@contextmanager
def served(host: str) -> Iterator[str]:
    """A gauge ``answer`` on a free port; gives the address on this machine."""
    registry = CollectorRegistry()
    Gauge("answer", "An answer.", registry=registry).set(42)
    with serving(registry, host, 0, "METRICS_PORT") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def ask(address: str, host: str | None = None) -> tuple[int, str]:
    """Status and body of the answer; ``host`` is the header of that name."""
    request = urllib.request.Request(address, headers={"Host": host} if host else {})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_metrics_are_answered_in_prometheus_form() -> None:
    with served("127.0.0.1") as address:
        status, text = ask(f"{address}/metrics")
        [family] = text_string_to_metric_families(text)
        assert (status, family.name, family.samples[0].value) == (200, "answer", 42)
        assert ask(f"{address}/") == (404, "expected /metrics\n")


@pytest.mark.parametrize(
    ("name", "status"),
    [("localhost", 200), ("127.0.0.1:9464", 200), ("[::1]:9464", 200), ("example.org", 400), ("[", 400), ("", 400)],
)
def test_a_local_address_answers_to_local_names(name: str, status: int) -> None:
    with served("127.0.0.1") as address:
        assert ask(f"{address}/metrics", name or " ")[0] == status


def test_an_address_that_others_reach_answers_to_any_name() -> None:
    with served("0.0.0.0") as address:
        assert ask(f"{address}/metrics", "pipeline:9464")[0] == 200


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"METRICS_HOST": "no such host"}, "set METRICS_HOST or METRICS_PORT"),
        ({"METRICS_HOST": "192.0.2.1"}, "set METRICS_HOST or METRICS_PORT"),
        ({"METRICS_PORT": "70000"}, "METRICS_PORT"),
    ],
)
def test_unavailable_address_is_a_one_line_error(
    variables: dict[str, str], reason: str, env: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in variables.items():
        env.setenv(name, value)
    assert main(["metrics"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert reason in line


def test_the_command_serves_a_new_home_until_it_is_told_to_stop(
    env: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    env.setenv("METRICS_PORT", str(port))
    env.setenv("DAGSTER_HOME", str(tmp_path / "home" / "dagster"))
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    answers: list[str] = []

    def scrape_and_stop() -> None:
        def answered() -> bool:
            try:
                answers.append(ask(f"http://127.0.0.1:{port}/metrics")[1])
            except OSError:
                return False
            return True

        try:
            until(answered)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    # If the command failed to start, the signal must not end the tests.
    signal.signal(signal.SIGTERM, lambda *_: None)
    thread = threading.Thread(target=scrape_and_stop)
    thread.start()
    try:
        assert main(["metrics"]) == 0
    finally:
        thread.join()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    names = {family.name for family in text_string_to_metric_families(answers[-1]) if family.samples}
    assert "recommender_pipeline_disk_free_bytes" in names
    assert f"http://127.0.0.1:{port}/metrics" in capsys.readouterr().out
