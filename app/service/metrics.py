"""Define the metrics for Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """The metrics of one app, in a separate registry.

    Attributes:
        registry: of all metrics.
        requests: number of requests, by method, route and status.
        by_key: number of requests with an API key, by its name and status.
        seconds: histogram of response times in seconds, by route.
        waiting: requests waiting for live scoring, including the current one.
        refreshes: polls for new publications, by result: same, new, failed.
        versions: 1 for each published version, by model and version.
        assignments: responses by experiment and arm.
    """

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self.requests = Counter("recommender_requests", "Requests.", ["method", "route", "status"], registry=own)
        self.by_key = Counter("recommender_key_requests", "Requests with an API key.", ["key", "status"], registry=own)
        self.seconds = Histogram(
            "recommender_request_seconds", "Response time in seconds.", ["route"], buckets=_SECONDS, registry=own
        )
        self.waiting = Gauge("recommender_live_waiting", "Requests in live scoring or waiting for it.", registry=own)
        self.refreshes = Counter("recommender_refreshes", "Polls for new publications.", ["result"], registry=own)
        self.versions = Gauge("recommender_version", "Published versions.", ["model", "version"], registry=own)
        self.assignments = Counter("recommender_assignments", "Responses by arm.", ["experiment", "arm"], registry=own)
