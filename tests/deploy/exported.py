"""Which metrics exporter and service export, and which ones an expression of PromQL uses."""

import re
from collections.abc import Iterator, Mapping

from prometheus_client.metrics_core import Metric

from app.service.metrics import Metrics
from orchestration.exporter.catalog import CATALOG, PREFIX

_FROM_PROMETHEUS = {"up": frozenset({"job", "instance"})}  # it adds these labels to all metrics, too
_ENDS = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}
_NAME = re.compile(r"\b(up|recommender_\w+)\b(?:\{([^}]*)\})?")
_MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_QUOTED = re.compile(r'"[^"]*"')


def exported() -> Mapping[str, frozenset[str]]:
    """Names of the labels by the names of the metrics."""
    pipeline = {PREFIX + name: frozenset(kind.labels) for name, kind in CATALOG.items()}
    names = pipeline | dict(_of_service(Metrics())) | _FROM_PROMETHEUS
    return {name: labels | _FROM_PROMETHEUS["up"] for name, labels in names.items()}


def _of_service(metrics: Metrics) -> Iterator[tuple[str, frozenset[str]]]:
    for own in vars(metrics).values():
        for family in own.collect() if hasattr(own, "collect") and hasattr(own, "_labelnames") else ():
            yield from _samples(family, frozenset(own._labelnames))


def _samples(family: Metric, labels: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for end in _ENDS[family.type]:
        yield family.name + end, labels | ({"le"} if end == "_bucket" else frozenset())


def used(expression: str) -> list[tuple[str, set[str]]]:
    """The metrics of an expression, each with the labels that it is selected by."""
    found = _NAME.findall(expression)
    return [(name, set(_MATCHER.findall(_QUOTED.sub('""', selector)))) for name, selector in found]


def problems(expression: str) -> list[str]:
    """What an expression asks for that nobody exports."""
    known, found = exported(), used(_QUOTED.sub(lambda quoted: quoted[0] if "{" not in quoted[0] else '""', expression))
    missing = [name for name, _ in found if name not in known]
    labels = [f"{name}: {sorted(own - known[name])}" for name, own in found if name in known and own - known[name]]
    return missing + labels + ([] if found else ["no metric"])
