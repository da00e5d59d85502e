"""Collects all readings when Prometheus asks for them."""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TypeVar

import dagster as dg
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ml.features.splits import RANDOM
from ml.published.champions import archived_datasets, archived_models
from orchestration.config.data_sets import DATA_SETS, DataSet
from orchestration.config.settings import settings
from orchestration.exporter import files, records
from orchestration.exporter.catalog import Reading, families
from orchestration.exporter.records import Records

_LOG = logging.getLogger(__name__)
_T = TypeVar("_T")
_OF_RECORDS: Mapping[str, Callable[[Records], Iterator[Reading]]] = {
    "runs": records.runs,
    "tables": records.tables,
    "ingestion": records.ingestion,
    "checks": records.checks,
    "drift": records.drift,
    "evaluation": records.evaluation,
}
_OF_PUBLISHED: Mapping[str, Callable[[str], Iterator[Reading]]] = {"gates": files.gates, "arrivals": files.arrivals}
PARTS = ("datasets", *_OF_RECORDS, *_OF_PUBLISHED, "publication", "daemons", "disk")


class PipelineCollector(Collector):
    """The pipeline's metrics, read again for every scrape.

    Args:
        instance: Dagster's records.
    """

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance, self._one_at_a_time = instance, threading.Lock()
        self._failures: dict[tuple[str, str], str] = {}  # of the last scrape: part and what of it, with the reason

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """All metrics without values. Called by Prometheus's client."""
        return families()

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """All metrics with their present values. Called by Prometheus's client."""
        with self._one_at_a_time:
            started = time.perf_counter()
            scrape = _Scrape(self._failures)
            readings = [*self._readings(scrape)]
            self._failures = scrape.failures
            failed = [part for part, _ in scrape.failures]
            readings += [Reading("scrape_errors", failed.count(part), (part,)) for part in PARTS]
            readings.append(Reading("scrape_duration_seconds", time.perf_counter() - started))
            return families(readings)

    def _readings(self, scrape: "_Scrape") -> Iterator[Reading]:
        yield from scrape.read("daemons", "", partial(records.daemons, self._instance))
        yield from scrape.read("disk", "", files.disk)
        for key in scrape.read("datasets", "", self._data_sets):
            for data_set in scrape.read("datasets", key, partial(_parsed, key)):
                own = Records(self._instance, data_set)
                for part, of_records in _OF_RECORDS.items():
                    yield from scrape.read(part, key, partial(of_records, own))
                if data_set.split == RANDOM:  # the only one that batches arrive for, and that is published
                    yield from self._published(scrape, key)

    @staticmethod
    def _published(scrape: "_Scrape", key: str) -> Iterator[Reading]:
        for part, of_published in _OF_PUBLISHED.items():
            yield from scrape.read(part, key, partial(of_published, key))
        for model in scrape.read("publication", key, partial(archived_models, settings().home, key)):
            yield from scrape.read("publication", f"{model} of {key}", partial(files.publication, key, model))

    def _data_sets(self) -> list[str]:
        """Keys of the data sets that runs were recorded for, and names of those that earlier releases published."""
        partitions = self._instance.get_dynamic_partitions(str(DATA_SETS.name))
        return sorted({*partitions, *archived_datasets(settings().home)})


def _parsed(key: str) -> list[DataSet]:
    return [DataSet.parse(key)]


class _Scrape:
    """One scrape. What cannot be read loses its own readings only; the log says why when that begins or changes.

    Args:
        before: ``failures`` of the last scrape.

    Attributes:
        failures: why readings failed, by their part and what of it.
    """

    def __init__(self, before: Mapping[tuple[str, str], str]) -> None:
        self._before, self.failures = before, dict[tuple[str, str], str]()

    def read(self, part: str, of: str, read: Callable[[], Iterable[_T]]) -> list[_T]:
        """What a function gives, or gave before it failed.

        Args:
            part: one of ``PARTS``.
            of: whose, such as the data set.
            read: the function.
        """
        found: list[_T] = []
        try:
            found.extend(read())
        except Exception as error:  # whatever is damaged, the other readings must be exported
            reason = f"{type(error).__name__}: {error}"
            self.failures[part, of] = reason
            if self._before.get((part, of)) != reason:
                _LOG.warning("not exported: %s%s: %s", part, f" of {of}" if of else "", reason)
        return found
