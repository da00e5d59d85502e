import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from urllib3.util import Retry

from orchestration import alerts
from orchestration.alerts import AlertError, post
from orchestration.definitions import build_definitions
from orchestration.freshness import Plan, Planner
from orchestration.sensors import alert_on_failure, alert_on_recovery

SECRET = "T000/B000/not-to-be-told"


@dataclass
class Webhook:
    """A server that takes messages, or refuses with these statuses first."""

    statuses: list[int] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    asked: int = 0


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
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    env.setenv("ALERT_WEBHOOK_URL", f"http://127.0.0.1:{server.server_port}/services/{SECRET}")
    env.setattr(alerts, "_RETRIES", Retry(total=4, status_forcelist=(503,), allowed_methods=None))
    for name in ("NO_PROXY", "no_proxy"):
        env.setenv(name, "127.0.0.1")
    yield state
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


@pytest.fixture
def history() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def night(history: dg.DagsterInstance, *, fails: bool = False, warns: bool = False) -> dg.ExecuteInProcessResult:
    """A run of one job with one asset."""

    @dg.asset(check_specs=[dg.AssetCheckSpec("promoted_autoint", asset="tables")])
    def tables() -> Iterator[Any]:
        if fails:
            raise RuntimeError("outer") from OSError("no space left on device")
        yield dg.AssetCheckResult(
            passed=not warns, severity=dg.AssetCheckSeverity.WARN, description="autoint version 2 is not promoted"
        )
        yield dg.MaterializeResult()

    job = dg.Definitions([tables], jobs=[dg.define_asset_job("nightly_job")]).resolve_job_def("nightly_job")
    return job.execute_in_process(instance=history, raise_on_error=False)


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
    assert "nightly_job" in failure
    assert "- tables: OSError: no space left on device" in failure
    assert failed.run_id in failure
    assert "succeeded again" in recovery


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
    assert message["text"].startswith(":red_circle: The schedule nightly launched no run: OSError: the disk is gone")


def test_a_warning_reaches_a_person(webhook: Webhook, history: dg.DagsterInstance) -> None:
    tell_of_success(history, night(history, warns=True))
    [message] = webhook.taken
    assert "succeeded with warnings" in message["text"]
    assert "- autoint version 2 is not promoted" in message["text"]


def test_sensors_say_that_there_is_no_webhook(history: dg.DagsterInstance) -> None:
    skipped = tell_of_failure(history, night(history, fails=True))
    assert skipped == dg.SkipReason("ALERT_WEBHOOK_URL is not set")
