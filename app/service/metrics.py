"""What Prometheus reads."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5)


class Metrics:
    """The metrics of one app, in a registry of their own.

    Attributes:
        registry: of all.
        requests: by method, route and status.
        seconds: a request took, by route.
        waiting: requests to be scored live, the one at work included.
        refreshes: looks for new publications by result: same, new, failed.
        versions: 1 for each published version, by model and version.
        assignments: answers by experiment and arm.
    """

    def __init__(self) -> None:
        self.registry = own = CollectorRegistry()
        self.requests = Counter("recommender_requests", "Requests.", ["method", "route", "status"], registry=own)
        self.seconds = Histogram(
            "recommender_request_seconds", "Time to the answer.", ["route"], buckets=_SECONDS, registry=own
        )
        self.waiting = Gauge("recommender_live_waiting", "Requests that are or wait to be scored live.", registry=own)
        self.refreshes = Counter("recommender_refreshes", "Looks for new publications.", ["result"], registry=own)
        self.versions = Gauge("recommender_version", "Published versions.", ["model", "version"], registry=own)
        self.assignments = Counter("recommender_assignments", "Answers by arm.", ["experiment", "arm"], registry=own)
