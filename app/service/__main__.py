"""Serve recommendations over HTTP: ``python -m app.service`` (``make serve``)."""

import socket
import sys
from ipaddress import ip_address

import uvicorn
from fastapi import FastAPI

from app.service.api import create_app
from app.service.config import load_serving_config
from app.service.keys import NEW_KEY, Keys
from app.service.limits import CONNECTIONS, BoundedProtocol
from app.service.traces import Tracing
from ml.errors import DataError
from orchestration.config.settings import Settings, settings
from orchestration.runtime.ports import listen
from orchestration.runtime.terminal import tolerate_any_terminal


def main() -> int:
    """Serve until Ctrl-C or SIGTERM and return the exit status."""
    tolerate_any_terminal()
    try:
        own, config = settings(), load_serving_config()
        listening = listen(own.serve_host, own.serve_port, "SERVE_HOST or SERVE_PORT")
        keys = _keys(own, listening)
        tracing = Tracing() if own.serve_traces else None
    except DataError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    config = config.model_copy(update={"hosts": (*config.hosts, own.serve_host)})
    app = create_app(own.home, own.serve_dataset, config, keys=keys, tracing=tracing)
    host = f"[{own.serve_host}]" if ":" in own.serve_host else own.serve_host
    sys.stderr.write(f"REST service  http://{host}:{own.serve_port}  (API documentation: /docs)\n")
    server_of(app).run([listening])
    return 0


def _keys(own: Settings, listening: socket.socket) -> Keys | None:
    """Return the API keys; None where there is no file, which only an address of this machine alone permits.

    Raises:
        DataError: the file is missing or cannot be used.
    """
    if own.serve_keys_file:
        return Keys(own.serve_keys_file)
    if ip_address(listening.getsockname()[0]).is_loopback:
        return None
    raise DataError(
        f"SERVE_HOST={own.serve_host} opens the service to other machines, so it needs API keys: write "
        f"<name>: <key> to a file, a line for each client (`{NEW_KEY}` makes a key), and set SERVE_KEYS_FILE to it; "
        "or leave SERVE_HOST at 127.0.0.1"
    )


def server_of(app: FastAPI) -> uvicorn.Server:
    """Return a server that limits what one client can use."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=BoundedProtocol,
            ws="none",
            limit_concurrency=CONNECTIONS,
            log_level="warning",
            access_log=False,
            server_header=False,
        )
    )


if __name__ == "__main__":
    sys.exit(main())
