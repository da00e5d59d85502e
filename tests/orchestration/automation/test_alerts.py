import json
import logging
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._utils.error import serializable_error_info_from_exc_info

from orchestration.automation import alerts
from orchestration.automation.alerts import AlertError, post
from orchestration.automation.sensors import alert_on_failure, alert_on_recovery
from orchestration.automation.staleness import Plan, Planner
from orchestration.config.data_sets import DATA_SETS, add_partition
from orchestration.config.settings import Settings
from orchestration.definitions import build_definitions

SECRET = "T000/B000/not-to-be-told"


@dataclass
class Webhook:
    """A server that takes messages, or refuses with these statuses first."""

    statuses: list[int] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0
    released: threading.Event = field(default_factory=threading.Event)


_SILENT, _DRIPPING = 598, 599  # no status: does not answer, answers byte by byte


def drip(answer: Any, released: threading.Event) -> None:
    answer.write(b"HTTP/1.1 200 OK\r\nX: ")
    while not released.wait(0.02):
        answer.write(b"x")


@pytest.fixture
def webhook(env: pytest.MonkeyPatch) -> Iterator[Webhook]:
    state = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            state.asked += 1
            status = state.statuses.pop(0) if state.statuses else 200
            if status == 200:
                assert self.path == f"/services/{SECRET}"
                assert self.headers["Content-Type"] == "application/json"
                state.taken.append(json.loads(body))
            if status == _SILENT:
                state.released.wait(10)
            if status == _DRIPPING:
                drip(self.wfile, state.released)
                return
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", f"http://127.0.0.1:{self.server.server_port}/elsewhere/{SECRET}")
            self.send_header("Content-Length", "0")
            self.send_header("Retry-After", "86400")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    env.setenv("ALERT_WEBHOOK_URL", f"http://127.0.0.1:{server.server_port}/services/{SECRET}")
    env.setattr(alerts, "_PAUSES", (0.0,) * 4)
    for name in ("NO_PROXY", "no_proxy"):
        env.setenv(name, "127.0.0.1")
    yield state
    state.released.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_without_an_address_nothing_is_sent() -> None:
    assert not post("hello")


def test_message_has_slacks_form(webhook: Webhook) -> None:
    assert post("hello")
    assert webhook.taken == [{"text": "hello"}]


def test_a_webhook_that_is_out_for_a_while_is_asked_again(webhook: Webhook) -> None:
    webhook.statuses = [503, 503]
    assert post("hello")
    assert webhook.taken == [{"text": "hello"}]
    assert webhook.asked == 3


@pytest.mark.parametrize(("statuses", "asked"), [([404], 1), ([503] * 9, 5)])
def test_a_refusal_is_told_without_the_secret(webhook: Webhook, statuses: list[int], asked: int) -> None:
    webhook.statuses = statuses
    with pytest.raises(AlertError, match=r"the webhook at 127\.0\.0\.1") as error:
        post("hello")
    assert webhook.asked == asked
    assert error.value.__cause__ is None
    assert SECRET not in str(error.value)


def test_an_unreachable_webhook_is_told_without_the_secret(webhook: Webhook, env: pytest.MonkeyPatch) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        env.setenv("ALERT_WEBHOOK_URL", f"http://127.0.0.1:{bound.getsockname()[1]}/services/{SECRET}")
        with pytest.raises(AlertError, match="cannot be reached") as error:
            post("hello")
    assert SECRET not in str(error.value)


CASES = [[200], [404], [301], [302], [307], [308], [503] * 9, [_SILENT] * 9, [_DRIPPING] * 9, "unreachable", "no host"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_address_is_in_no_log_and_no_traceback(
    case: list[int] | str,
    webhook: Webhook,
    env: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    env.setattr(alerts, "_TOTAL_SECONDS", 0.4)
    env.setattr(alerts, "_ATTEMPT_SECONDS", 0.15)
    env.setattr(threading, "excepthook", lambda args: pytest.fail(str(args)))
    caplog.set_level(logging.DEBUG)
    if isinstance(case, list):
        webhook.statuses = [*case]
    else:
        address = {"unreachable": f"http://127.0.0.1:9/{SECRET}", "no host": f"hooks.example/{SECRET}"}[case]
        env.setenv("ALERT_WEBHOOK_URL", address)
    started, told = time.monotonic(), ""
    try:
        post("hello")
    except AlertError:
        told = "".join(traceback.format_exception(*sys.exc_info(), chain=True))
    assert time.monotonic() - started < 5
    assert bool(told) == (case != [200])
    printed = "".join(capfd.readouterr())
    for said in (told, printed, *(record.getMessage() for record in caplog.records), repr(Settings()), str(Settings())):
        assert "not-to-be-told" not in said
        assert "T000" not in said


def test_the_address_is_in_no_event_of_a_sensor_that_failed(webhook: Webhook, tmp_path: Path) -> None:
    webhook.statuses = [403]
    history = dg.DagsterInstance.local_temp(str(tmp_path))
    with history, pytest.raises(AlertError) as raised:
        tell_of_failure(history, night(history, fails=True))
    told = serializable_error_info_from_exc_info((type(raised.value), raised.value, raised.tb)).to_string()
    assert "the webhook at 127.0.0.1 refused the message: status 403" in told
    for said in (told, *(path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file())):
        assert "not-to-be-told" not in said


def test_the_address_is_in_no_complaint_about_another_setting(webhook: Webhook, env: pytest.MonkeyPatch) -> None:
    env.setenv("DAGSTER_PORT", "no port")
    with pytest.raises(ValueError, match="DAGSTER_PORT") as raised:
        Settings()
    assert "not-to-be-told" not in str(raised.value)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status: int, webhook: Webhook) -> None:
    webhook.statuses = [status]
    with pytest.raises(AlertError, match=rf"redirect \(status {status}\); set ALERT_WEBHOOK_URL"):
        post("hello")
    assert webhook.asked == 1


@pytest.mark.parametrize(
    "address",
    ["hooks.example/x", "ftp://hooks.example/x", "file:///x", "https://", "https://[x/y", "https://u:p@host/x"],
)
def test_an_address_that_is_none_is_told(address: str, env: pytest.MonkeyPatch) -> None:
    env.setenv("ALERT_WEBHOOK_URL", address)
    words = r"^ALERT_WEBHOOK_URL: expected an address such as https://host/path, without a user name$"
    with pytest.raises(AlertError, match=words):
        post("hello")


@pytest.mark.parametrize("status", [_SILENT, _DRIPPING])
def test_a_webhook_that_hangs_is_given_up_in_time(status: int, webhook: Webhook, env: pytest.MonkeyPatch) -> None:
    env.setattr(alerts, "_TOTAL_SECONDS", 0.3)
    webhook.statuses = [status] * 9
    started = time.monotonic()
    with pytest.raises(AlertError, match=r"the webhook at 127\.0\.0\.1 did not answer within 0\.3 seconds"):
        post("hello")
    assert time.monotonic() - started < 3


def test_all_attempts_end_while_a_sensor_may_still_run() -> None:
    assert sum(alerts._PAUSES) < alerts._TOTAL_SECONDS
    assert 2 * alerts._TOTAL_SECONDS < 60


@pytest.fixture
def history() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def night(
    history: dg.DagsterInstance, *, fails: bool = False, warns: bool = False, data_set: str = "films"
) -> dg.ExecuteInProcessResult:
    """A run of one job with one asset."""

    @dg.asset(partitions_def=DATA_SETS, check_specs=[dg.AssetCheckSpec("promoted_autoint", asset="tables")])
    def tables() -> Iterator[Any]:
        if fails:
            raise RuntimeError("outer") from OSError("no space left on device")
        yield dg.AssetCheckResult(
            passed=not warns, severity=dg.AssetCheckSeverity.WARN, description="autoint version 2 is not promoted"
        )
        yield dg.MaterializeResult()

    job = dg.Definitions([tables], jobs=[dg.define_asset_job("nightly_job")]).resolve_job_def("nightly_job")
    add_partition(history, data_set)
    return job.execute_in_process(instance=history, raise_on_error=False, partition_key=data_set)


def tell_of_failure(history: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> Any:
    event = next(event for event in result.all_events if event.is_failure and not event.is_step_event)
    with dg.build_run_status_sensor_context("alert_on_failure", event, history, result.dagster_run) as context:
        return alert_on_failure(context.for_run_failure())


def tell_of_success(history: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> Any:
    event = next(event for event in result.all_events if event.event_type is dg.DagsterEventType.RUN_SUCCESS)
    with dg.build_run_status_sensor_context("alert_on_recovery", event, history, result.dagster_run) as context:
        return alert_on_recovery(context)


def test_failure_and_recovery_reach_a_person(webhook: Webhook, history: dg.DagsterInstance) -> None:
    assert isinstance(tell_of_success(history, night(history)), dg.SkipReason)
    failed = night(history, fails=True)
    tell_of_failure(history, failed)
    tell_of_success(history, night(history))
    assert isinstance(tell_of_success(history, night(history)), dg.SkipReason)
    failure, recovery = (message["text"] for message in webhook.taken)
    assert "nightly_job of films (run " in failure
    assert "- tables: OSError: no space left on device" in failure
    assert failed.run_id in failure
    assert "succeeded again" in recovery


def test_another_data_set_s_success_is_no_recovery(webhook: Webhook, history: dg.DagsterInstance) -> None:
    night(history, fails=True)
    assert isinstance(tell_of_success(history, night(history, data_set="shows")), dg.SkipReason)
    assert webhook.taken == []
    tell_of_success(history, night(history))
    [message] = webhook.taken
    assert "nightly_job of films" in message["text"]
    assert "succeeded again" in message["text"]


def test_a_schedule_that_cannot_launch_its_run_tells_a_person(
    webhook: Webhook, env: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def plan(planner: Planner, selection: dg.AssetSelection) -> Plan:
        raise OSError("the disk is gone")

    definitions = build_definitions()
    env.setattr(Planner, "plan", plan)
    repository = definitions.get_repository_def()
    with (
        dg.DagsterInstance.local_temp(str(tmp_path)) as instance,
        dg.build_schedule_context(instance, datetime(2003, 3, 1, tzinfo=UTC), repository_def=repository) as context,
        pytest.raises(dg.DagsterError) as raised,
    ):
        definitions.resolve_schedule_def("nightly").evaluate_tick(context)
    assert isinstance(raised.value.__cause__, OSError)  # the tick fails as well, for the UI to show
    [message] = webhook.taken
    assert message["text"].startswith(
        ":red_circle: The schedule nightly, data set ml-1m, launched no run: OSError: the disk"
    )


def test_a_warning_reaches_a_person(webhook: Webhook, history: dg.DagsterInstance) -> None:
    tell_of_success(history, night(history, warns=True))
    [message] = webhook.taken
    assert "succeeded with warnings" in message["text"]
    assert "- autoint version 2 is not promoted" in message["text"]


def test_sensors_say_that_there_is_no_webhook(history: dg.DagsterInstance) -> None:
    skipped = tell_of_failure(history, night(history, fails=True))
    assert skipped == dg.SkipReason("ALERT_WEBHOOK_URL is not set")
