import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi.testclient import TestClient
from upath import UPath

from app.service.api import create_app
from app.service.config import ServingConfig
from app.service.keys import Keys
from app.service.traces import Tracing
from tests.waiting import until

CONFIG = ServingConfig.model_validate(
    {
        "refresh_seconds": 0.05,
        "max_k": 50,
        "max_pairs": 20,
        "max_queue": 4,
        "hosts": ["testserver", "2001:db8::5"],
        "experiment": {
            "name": "test",
            "arms": [{"model": "autoint", "share": 0.25}, {"model": "autoint_mlp", "share": 0.75}],
        },
    }
)


class Log:
    """Collect what the service logs, as dictionaries."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []
        keep = structlog.testing.LogCapture()
        keep.entries = self.lines
        self.logger = structlog.wrap_logger(None, processors=[keep])

    def of(self, event: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["event"] == event]


@contextmanager
def serving(
    home: Path,
    config: ServingConfig = CONFIG,
    log: Log | None = None,
    keys: Keys | None = None,
    tracing: Tracing | None = None,
) -> Iterator[TestClient]:
    """Start and stop the service on a home, without waiting until it is ready."""
    app = create_app(UPath(home), None, config, (log or Log()).logger, keys, tracing)
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


@pytest.fixture(scope="session")
def log() -> Log:
    """Return the app of ``client``."""
    return Log()


@pytest.fixture(scope="session")
def client(published_home: Path, log: Log) -> Iterator[TestClient]:
    """Start the service on the published home and wait until it is ready."""
    with serving(published_home, log=log) as found:
        until(lambda: found.get("/readyz").status_code == 200)
        yield found


Problem = Callable[[Any, int], dict[str, Any]]


@pytest.fixture(scope="session")
def problem() -> Problem:
    """Return a function that checks that a response is a problem document with a status, and returns it."""

    def check(response: Any, status: int) -> dict[str, Any]:
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        document: dict[str, Any] = json.loads(response.content)
        assert document["status"] == status
        assert {"type", "title", "detail", "instance"} <= set(document)
        assert "Traceback" not in response.text
        return document

    return check
