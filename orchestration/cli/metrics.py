"""Serve the pipeline's metrics for Prometheus until Ctrl-C or SIGTERM: ``make metrics``."""

import logging
import signal
import sys

import dagster as dg
from prometheus_client import CollectorRegistry

from orchestration.config.settings import settings
from orchestration.exporter.collector import PipelineCollector
from orchestration.exporter.server import PATH, serving, stop
from orchestration.runtime.instance import use_instance


def main() -> int:
    """Serve; gives the exit status. Raises DataError where the address cannot be listened on."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    host, port = settings().metrics_host, settings().metrics_port
    use_instance()
    with dg.DagsterInstance.get() as instance:
        registry = CollectorRegistry(auto_describe=False)
        registry.register(PipelineCollector(instance))
        with serving(registry, host, port, "METRICS_HOST or METRICS_PORT") as server:
            for name in (signal.SIGINT, signal.SIGTERM):
                signal.signal(name, lambda *_: stop(server))
            shown = f"[{host}]" if ":" in host else host
            sys.stdout.write(f"Metrics of {settings().home}  http://{shown}:{port}{PATH}  Ctrl-C stops.\n")
            sys.stdout.flush()
            server.serve_forever()
    return 0
