"""Let in only requests with an API key, and only so many a second."""

import math
import re
import time
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from app.service import problems
from app.service.config import Rate
from app.service.headers import DOCS, DOCS_FILES
from app.service.keys import LONGEST, Keys
from app.service.middleware import FACTS
from app.service.problems import problem

PROBES = ("/healthz", "/readyz")
_DOCUMENTATION = re.compile(rf"/|{DOCS}|/openapi\.json|{DOCS_FILES}/[^/]+")
_BEARER = re.compile(rb"bearer +([!-~]{1,%d})" % LONGEST, re.IGNORECASE)  # RFC 6750
_CHALLENGE = 'Bearer realm="recommender"'
_BODY_HEADERS = (b"content-length", b"transfer-encoding")
_TOLD = "expected an API key of this service in the header Authorization: Bearer <key>"


class RequiresKey:
    """Refuse requests without a key (401) or with too many before them (429), before anything of a body is read.

    Health probes need no key: what asks them often has none, and the answer without one tells only whether all is well.

    Args:
        app: the wrapped application.
        keys: the valid keys.
        rate: how many requests of one name are let in; None for any number.
        open_docs: whether the API's documentation needs no key.
    """

    def __init__(self, app: ASGIApp, keys: Keys, rate: Rate | None, open_docs: bool) -> None:
        self._app, self._keys, self._open_docs = app, keys, open_docs
        self._buckets = Buckets(rate) if rate else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request; called by the server."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        found = _BEARER.fullmatch(given[0]) if len(given) == 1 else None
        name = self._keys.name_of(found[1]) if found else None
        if name:
            scope[FACTS]["key"] = name
        if scope["path"] in PROBES or (self._open_docs and _DOCUMENTATION.fullmatch(scope["path"])):
            return None
        if name is None:
            challenge = f'{_CHALLENGE}, error="invalid_token"' if given else _CHALLENGE
            return _refused(scope, 401, _TOLD, {"WWW-Authenticate": challenge})
        wait = self._buckets.take(name) if self._buckets else 0
        if wait:
            return _refused(scope, 429, f"too many requests with the key of {name}", {"Retry-After": f"{wait}"})
        return None


class Buckets:
    """A token bucket for each name: full at first, and filled again at a steady rate.

    Args:
        rate: size and speed.
        clock: seconds.
    """

    def __init__(self, rate: Rate, clock: Callable[[], float] = time.monotonic) -> None:
        self._each, self._whole, self._clock = 1 / rate.per_second, rate.burst / rate.per_second, clock
        self._full_at: dict[str, float] = {}

    def take(self, name: str) -> int:
        """Take a token and return 0; or, if there is none, return the seconds until there is one, rounded up."""
        now = self._clock()
        full_at = max(self._full_at.get(name, now), now) + self._each
        wait = full_at - now - self._whole
        if wait > 1e-6:  # beyond rounding
            return math.ceil(wait)
        self._full_at[name] = full_at
        return 0


def describe(app: FastAPI) -> None:
    """Add keys and rate to the description of the API, for the service that asks for them."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = plain()
            scheme = {"type": "http", "scheme": "bearer", "description": "An API key of this service."}
            document.setdefault("components", {})["securitySchemes"] = {"key": scheme}
            document["security"] = [{"key": []}]
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    if path in PROBES:
                        operation["security"] = []
                    else:
                        operation["responses"] |= {str(k): v for k, v in problems.documented(401, 429).items()}
        return dict(app.openapi_schema or {})

    app.openapi = openapi  # type: ignore[method-assign]


def _refused(scope: Scope, status: int, detail: str, headers: dict[str, str]) -> Response:
    """Return the problem document; a connection on which a body may follow is closed after it."""
    if any(name in _BODY_HEADERS for name, _ in scope["headers"]):
        headers = {**headers, "Connection": "close"}
    return problem(Request(scope), status, detail, headers=headers)
