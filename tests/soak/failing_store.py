"""Serve moto's store of objects; while a file exists, it answers with errors: ``python -m tests.soak.failing_store``.

Arguments: the port and the path of the file, whose content is the status, such as 503.
"""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

_HOST = "127.0.0.1"
_REASONS = {"500": "Internal Server Error", "503": "Slow Down"}


def failing(store: WSGIApplication, fault: Path) -> WSGIApplication:
    """Wrap a store."""

    def answer(environment: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        try:
            status = fault.read_text()
        except FileNotFoundError:
            return store(environment, start)
        start(f"{status} {_REASONS[status]}", [("Content-Type", "application/xml")])
        return [f"<Error><Code>{_REASONS[status].replace(' ', '')}</Code></Error>".encode()]

    return answer


def main(port: int, fault: Path) -> None:
    """Serve until the process is killed."""
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import run_simple

    create: Callable[[Any], Any] = create_backend_app
    run_simple(_HOST, port, failing(DomainDispatcherApplication(create), fault), threaded=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
