"""Request ids, the request log and the metrics of requests."""

import re
import time
import uuid
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.service.metrics import Metrics
from app.service.problems import problem

_ID = re.compile(rb"[\w.-]{1,64}")
_LONGEST_PATH = 256  # in the log
_FAILED = "the service failed; its log has the error under this answer's X-Request-ID"
FACTS = "recommender.facts"  # in the scope: what an endpoint says of its answer


class Observed:
    """Logs and counts each request, and gives each answer the request's id.

    Args:
        app: what answers.
        logger: of the log.
        metrics: to count in.
    """

    def __init__(self, app: ASGIApp, logger: Any, metrics: Metrics) -> None:
        self._app, self._logger, self._metrics = app, logger, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, begun = time.perf_counter(), 500, False
        request_id = _request_id(scope)
        facts: dict[str, Any] = {}
        scope[FACTS] = facts

        async def send_with_id(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception:
            self._logger.exception("failed", request_id=request_id.decode(), path=scope["path"][:_LONGEST_PATH])
            if not begun:
                await problem(Request(scope), 500, _FAILED)(scope, receive, send_with_id)
        finally:
            seconds = time.perf_counter() - started
            route = getattr(scope.get("route"), "path", "unknown")
            self._metrics.requests.labels(scope["method"], route, status).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            self._logger.info(
                "request",
                request_id=request_id.decode(),
                method=scope["method"],
                route=route,
                path=scope["path"][:_LONGEST_PATH],
                status=status,
                ms=round(seconds * 1000, 3),
                **facts,
            )


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _ID.fullmatch(value):
            return bytes(value)
    return uuid.uuid4().hex.encode()
