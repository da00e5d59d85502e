"""Serve recommendations over HTTP: ``python -m app.service`` (``make serve``)."""

import sys

import uvicorn

from app.service.api import create_app
from app.service.config import load_serving_config
from ml.errors import DataError
from orchestration.ports import listen
from orchestration.settings import Settings


def main() -> int:
    """Serve until Ctrl-C or SIGTERM; gives the exit status."""
    settings = Settings()
    try:
        config = load_serving_config()
        listening = listen(settings.serve_host, settings.serve_port, "SERVE_PORT")
    except DataError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    app = create_app(settings.home, settings.serve_dataset, config)
    sys.stderr.write(f"REST service  http://{settings.serve_host}:{settings.serve_port}  (its description: /docs)\n")
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False, server_header=False))
    server.run([listening])
    return 0


if __name__ == "__main__":
    sys.exit(main())
