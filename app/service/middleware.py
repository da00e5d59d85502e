"""Assign request ids, log requests and count them."""

import re
import time
import uuid
from collections.abc import Collection
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.service.metrics import Metrics
from app.service.problems import problem

_ID = re.compile(rb"[\w.-]{1,64}")
_LONGEST_PATH = 256  # in the log
_FAILED = "internal error; the service's log has details under this response's X-Request-ID"
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:\[\]]+)(:[0-9]{1,5})?")
_LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
FACTS = "recommender.facts"  # key in the scope: what an endpoint logs about its response


class Observed:
    """Log and count each request, and add its id to the response.

    Args:
        app: the wrapped application.
        logger: structured logger.
        metrics: where requests are counted.
    """

    def __init__(self, app: ASGIApp, logger: Any, metrics: Metrics) -> None:
        self._app, self._logger, self._metrics = app, logger, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; called by the server."""
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
            route = getattr(scope.get("route"), "path_format", "unknown")
            self._metrics.requests.labels(scope["method"], route, status).inc()
            if "key" in facts:
                self._metrics.by_key.labels(facts["key"], status).inc()
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


class KnownHosts:
    """Refuse requests to other names than the service's own.

    A page of another site can give its own name this machine's address, and would then read what the service answers.
    Starlette's ``TrustedHostMiddleware`` knows no IPv6 addresses, and its answer is no problem document.

    Args:
        app: the wrapped application.
        hosts: accepted names and addresses besides those of this machine.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self._app = app
        plain = (host.strip("[]").lower() for host in hosts)
        self._hosts = {*_LOCAL_HOSTS, *(f"[{host}]" if ":" in host else host for host in plain)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; called by the server."""
        given = [value.decode("latin-1").lower() for name, value in scope.get("headers", ()) if name == b"host"]
        found = _HOST.fullmatch(given[0]) if len(given) == 1 else None
        if scope["type"] != "http" or (found and found[1] in self._hosts):
            await self._app(scope, receive, send)
            return
        told = "expected this service's own name in the header Host; hosts of serving.yaml adds further ones"
        await problem(Request(scope), 400, told)(scope, receive, send)


def _request_id(scope: Scope) -> bytes:
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _ID.fullmatch(value):
            return bytes(value)
    return uuid.uuid4().hex.encode()
