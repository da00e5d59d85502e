"""Send OpenTelemetry traces, where they are switched on and the extra ``traces`` is installed.

A span has its route, never its path, query, headers or client: a path has a user's id. The instrumentations of FastAPI,
Starlette and OpenTelemetry write these, and nothing can be removed from a span.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.service.access import PROBES
from app.service.middleware import FACTS
from ml.errors import DataError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

_SERVICE = "movie-recommender"
_UNTRACED = (*PROBES, "/metrics")
_TOLD = ("model", "model_version", "source", "k", "pairs")  # of what is logged; not the user
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")  # others may be anything


class Tracing:
    """Where spans are sent, as the environment variables of OpenTelemetry's SDK (OTEL_...) say.

    Args:
        exporter: default: OTLP over HTTP.

    Raises:
        DataError: the extra is not installed, or a variable is invalid.
    """

    def __init__(self, exporter: SpanExporter | None = None) -> None:
        try:
            from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
            from opentelemetry.sdk.resources import SERVICE_NAME, Resource
            from opentelemetry.sdk.trace import TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
        except ImportError as error:
            raise DataError(
                f"SERVE_TRACES is true, but {error.name} is not installed; install the extra traces "
                "(pip install --constraint constraints.txt --editable '.[traces]'), or leave SERVE_TRACES unset"
            ) from error
        try:
            found = Resource.create()
            if str(found.attributes[SERVICE_NAME]).startswith("unknown_service"):
                found = found.merge(Resource({SERVICE_NAME: _SERVICE}))
            self._provider = TracerProvider(resource=found, shutdown_on_exit=False)
            self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        except ValueError as error:
            raise DataError(f"an environment variable OTEL_... is invalid: {error}") from error
        self.tracer = self._provider.get_tracer(__name__)

    def stop(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


class Traced:
    """Make a span of each request, within the caller's trace (``traceparent``) if there is one.

    Args:
        app: the wrapped application.
        tracing: where spans are sent.
    """

    def __init__(self, app: ASGIApp, tracing: Tracing) -> None:
        self._app, self._tracer = app, tracing.tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; called by the server."""
        if scope["type"] != "http" or scope["path"] in _UNTRACED:
            await self._app(scope, receive, send)
            return
        from opentelemetry import propagate, trace

        status = 500

        async def send_observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        with self._tracer.start_as_current_span(
            method,
            context=propagate.extract(headers),
            kind=trace.SpanKind.SERVER,
            record_exception=False,  # its text may have a user's id
            set_status_on_exception=False,
        ) as span:
            facts = scope[FACTS]
            facts["trace_id"] = trace.format_trace_id(span.get_span_context().trace_id)
            try:
                await self._app(scope, receive, send_observed)
            finally:
                span.set_attributes(_attributes(scope, method, status, facts))
                if route := getattr(scope.get("route"), "path_format", None):
                    span.update_name(f"{method} {route}")
                if status >= 500:
                    span.set_status(trace.StatusCode.ERROR)


def _attributes(scope: Scope, method: str, status: int, facts: dict[str, Any]) -> dict[str, Any]:
    """Return what a span says, by the names of OpenTelemetry's conventions, and what is known of the response."""
    route = getattr(scope.get("route"), "path_format", None)
    return {
        "http.request.method": method,
        "http.response.status_code": status,
        "url.scheme": scope.get("scheme", "http"),
        **({"http.route": route} if route else {}),
        **({"error.type": str(status)} if status >= 500 else {}),
        **{f"recommender.{name}": facts[name] for name in _TOLD if facts.get(name) is not None},
    }
