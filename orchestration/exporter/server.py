"""Serves the metrics over HTTP."""

import ipaddress
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import make_wsgi_app

from orchestration.runtime.ports import listen

PATH = "/metrics"
_CLIENT_SECONDS = 10  # that a client may take for its request
_Start = Callable[..., Any]
_App = Callable[[dict[str, Any], _Start], Iterable[bytes]]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = _CLIENT_SECONDS

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class calls it so
        """Log no requests: Prometheus sends some every minute."""


@contextmanager
def serving(registry: CollectorRegistry, host: str, port: int, setting: str) -> Iterator[WSGIServer]:
    """Listen on an address; ``serve_forever`` of what it yields answers requests for ``PATH``.

    Args:
        registry: has the metrics.
        host: name or address.
        port: its port; 0 for a free one.
        setting: what sets them, for the error.

    Raises:
        DataError: the address cannot be listened on.
    """
    bound = listen(host, port, setting)
    server = _Server((host, port), _Handler, bind_and_activate=False)
    server.socket.close()
    server.socket, server.server_name, server.server_port = bound, host, bound.getsockname()[1]
    server.setup_environ()
    server.set_app(_app(registry, is_local(host)))
    try:
        server.server_activate()
        yield server
    finally:
        server.server_close()


def stop(server: WSGIServer) -> None:
    """Let ``serve_forever`` return, from a signal's handler too, which runs in the thread that serves."""
    threading.Thread(target=server.shutdown, daemon=True).start()


def is_local(host: str) -> bool:
    """Whether only this machine can reach an address or name."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _app(registry: CollectorRegistry, local: bool) -> _App:
    """Answer requests for ``PATH``.

    A page of another site can give its own name this machine's address, and would then read the answers. So what only
    this machine can reach answers to this machine's names only.
    """
    metrics = make_wsgi_app(registry)

    def app(environ: dict[str, Any], start: _Start) -> Iterable[bytes]:
        if local and not is_local(_name_of(environ.get("HTTP_HOST", ""))):
            return _refused(start, "400 Bad Request", "expected localhost or 127.0.0.1 in the header Host")
        if environ["PATH_INFO"] != PATH:
            return _refused(start, "404 Not Found", f"expected {PATH}")
        answer: Iterable[bytes] = metrics(environ, start)
        return answer

    return app


def _name_of(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def _refused(start: _Start, status: str, told: str) -> Iterable[bytes]:
    start(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{told}\n".encode()]
