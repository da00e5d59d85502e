"""Test the service's OpenTelemetry traces: what arrives at a collector, and what never does."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.service.keys import Keys
from app.service.state import State
from app.service.traces import Tracing
from ml.errors import DataError
from orchestration.config.settings import PROJECT_ROOT
from tests.app.service.conftest import Log, serving
from tests.app.service.test_keys import SHOP
from tests.waiting import until

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ExportTraceServiceRequest]]:
    """Start a local collector, as the SDK's variables say; return what it receives."""
    received: list[ExportTraceServiceRequest] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            received.append(ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield received
        server.shutdown()


def test_collector_receives_spans(collector: list[ExportTraceServiceRequest], tmp_path: Path) -> None:
    with serving(tmp_path, tracing=Tracing()) as client:
        client.get("/models")
    [resource] = [each for request in collector for each in request.resource_spans]  # the rest is sent at the end
    names = {each.key: each.value.string_value for each in resource.resource.attributes}
    assert names["service.name"] == "movie-recommender"
    [span] = resource.scope_spans[0].spans
    assert span.name == "GET /models"


def test_collector_that_is_away_does_not_hold_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with serving(tmp_path, tracing=Tracing()) as client:
        assert client.get("/models").status_code == 503


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def test_spans_are_parts_of_the_caller_s_trace_and_tell_nothing_of_people(
    published_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "keys").write_text(f"shop: {SHOP}")
    memory, log = InMemorySpanExporter(), Log()
    with serving(published_home, log=log, keys=Keys(tmp_path / "keys"), tracing=Tracing(memory)) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        client.headers["Authorization"] = f"Bearer {SHOP}"
        parent = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        client.get("/users/271/recommendations?model=autoint&k=3", headers=parent)
        assert log.of("request")[-1]["trace_id"] == TRACE
        client.get("/users/99271/recommendations")  # unknown: the error names the user
        client.request("Q271", "/users/271/recommendations")
        client.get("/metrics")
        client.headers["Authorization"] = "Bearer wrong"
        client.get("/users/271/recommendations")
        client.headers["Authorization"] = f"Bearer {SHOP}"

        def fail(*_: Any) -> None:
            raise RuntimeError("user 271")

        monkeypatch.setattr(State, "arm_model", fail)
        assert client.get("/users/271/recommendations").status_code == 500
    spans = memory.get_finished_spans()
    route = "/users/{user_id}/recommendations"
    assert [span.name for span in spans] == [f"GET {route}"] * 2 + [f"_OTHER {route}", f"GET {route}"]
    first, unknown, _, failed = spans
    assert first.context.trace_id == int(TRACE, 16)
    assert first.parent is not None
    assert first.parent.span_id == int(PARENT, 16)
    assert attributes(first) == {
        "http.request.method": "GET", "http.response.status_code": 200, "url.scheme": "http", "http.route": route,
        "recommender.model": "autoint", "recommender.model_version": "3", "recommender.source": "table",
        "recommender.k": 3,
    }  # fmt: skip
    assert (attributes(unknown)["http.response.status_code"], unknown.status.is_ok) == (404, True)
    assert (attributes(failed)["error.type"], failed.status.is_ok) == ("500", False)
    everything = "".join(span.to_json() for span in spans)
    assert SHOP not in everything
    for span in spans:
        assert not span.events
        assert "271" not in f"{span.name} {attributes(span)} {span.status.description} {span.attributes}"


def test_names_and_sampling_of_the_sdk_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shelf")
    memory = InMemorySpanExporter()
    with serving(tmp_path, tracing=Tracing(memory)) as client:
        client.get("/models")
    assert [span.resource.attributes["service.name"] for span in memory.get_finished_spans()] == ["shelf"]
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    memory = InMemorySpanExporter()
    with serving(tmp_path, tracing=Tracing(memory)) as client:
        client.get("/models")
    assert not memory.get_finished_spans()


def test_invalid_variable_of_the_sdk_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1")  # less than a batch
    with pytest.raises(DataError, match=r"OTEL_.*max_queue_size"):
        Tracing()


def test_extra_that_is_missing_is_named_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(DataError, match=r"SERVE_TRACES.*extra traces.*pip install"):
        Tracing()


def test_without_the_switch_nothing_is_sent(
    collector: list[ExportTraceServiceRequest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    with serving(tmp_path) as client:
        client.get("/users/271/recommendations")
    assert not collector


def test_without_the_switch_no_sdk_is_imported() -> None:
    """FastAPI imports OpenTelemetry's interface, which does nothing."""
    code = "import sys, app.service.__main__; print([name for name in sys.modules if name.startswith('opentelemetry')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert "opentelemetry.sdk" not in done.stdout
    assert "opentelemetry.exporter" not in done.stdout
