"""The pipeline's metrics for Prometheus: names, labels and meanings."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from prometheus_client.core import GaugeMetricFamily

PREFIX = "recommender_pipeline_"
# Metrics of a model's quality. Each is a metric of its own: a sum or mean over different ones would mean nothing.
QUALITY = ("ndcg_at_10", "auc", "log_loss", "catalogue_ndcg_at_10", "catalogue_coverage_at_10")
CHAMPION, EVALUATED = "champion_", "evaluated_"  # before the names of QUALITY

_DATA_SET = ("dataset",)
_MODEL = ("dataset", "model")
_VERSION = ("dataset", "model", "version")


class Kind(NamedTuple):
    """What a metric measures.

    Attributes:
        meaning: one sentence.
        labels: their names.
    """

    meaning: str
    labels: tuple[str, ...]


class Reading(NamedTuple):
    """A value of a metric.

    Attributes:
        metric: name in ``CATALOG``.
        value: in the unit that the name ends with.
        labels: their values, in the order of the metric's labels.
    """

    metric: str
    value: float
    labels: tuple[str, ...] = ()


CATALOG: Mapping[str, Kind] = {
    "scheduled": Kind("Whether the nightly schedule runs the data set (1) or not (0).", _DATA_SET),
    "last_success_timestamp_seconds": Kind("End of the last successful run of the data set's job.", _DATA_SET),
    "last_run_timestamp_seconds": Kind("End of the last run; canceled ones do not count.", _DATA_SET),
    "last_run_duration_seconds": Kind("Duration of that run, with its wait for other runs.", _DATA_SET),
    "last_run_failed": Kind("Whether that run failed (1) or succeeded (0).", _DATA_SET),
    "runs_in_progress": Kind("Runs of any job that have started and not ended.", _DATA_SET),
    "runs_queued": Kind("Runs of any job that wait for their start.", _DATA_SET),
    "daemon_heartbeat_timestamp_seconds": Kind("Last sign of life of a part of Dagster's daemon.", ("daemon",)),
    "published_timestamp_seconds": Kind("When a version of the model was last published, or rolled back to.", _MODEL),
    "published_version": Kind("Number of the model's published version.", _MODEL),
    "table_rows": Kind("Rows of a table, as last written.", ("dataset", "table")),
    "gate_passed": Kind("Whether the challenger passes a gate (1) or not (0).", (*_MODEL, "gate")),
    "challenger_version": Kind("Number of the version that was last judged by the gates.", _MODEL),
    "check_passed": Kind("Last result of a check that warns: passed (1) or not (0).", ("dataset", "asset", "check")),
    "drift_findings": Kind("Failed checks of the last comparison of new ratings with earlier ones.", _DATA_SET),
    "feature_stability_index": Kind("Population stability index of the last ingestion.", ("dataset", "feature")),
    "feature_unknown_ratio": Kind("Share of the last ingestion's rows with a new value.", ("dataset", "feature")),
    "newest_batch_timestamp_seconds": Kind("Latest date of an ingestion batch that counts, at 00:00 UTC.", _DATA_SET),
    "ingestion_batches": Kind("Ingestion batches that count.", _DATA_SET),
    "last_ingestion_files": Kind("Files of the last ingestion.", ("dataset", "outcome")),
    "incoming_files": Kind("Files that have arrived and were not ingested yet.", _DATA_SET),
    "pending_files": Kind("Files that wait for the users or movies that they refer to.", _DATA_SET),
    "quarantined_files": Kind("Invalid files that lie in quarantine, also of earlier ingestions.", _DATA_SET),
    **{f"{CHAMPION}{name}": Kind(f"{name} of the published version.", _VERSION) for name in QUALITY},
    **{f"{EVALUATED}{name}": Kind(f"{name} of the last evaluated version.", _MODEL) for name in QUALITY},
    "disk_size_bytes": Kind("Size of the file system of the home.", ()),
    "disk_free_bytes": Kind("What is free of it for the exporter's user.", ()),
    "scrape_errors": Kind("Readings of this scrape that failed; the exporter's log says why.", ("part",)),
    "scrape_duration_seconds": Kind("Duration of this scrape.", ()),
}  # fmt: skip


def families(readings: Iterable[Reading] = ()) -> list[GaugeMetricFamily]:
    """All metrics with these values, for Prometheus's client."""
    found = {name: GaugeMetricFamily(PREFIX + name, kind.meaning, labels=kind.labels) for name, kind in CATALOG.items()}
    for reading in readings:
        found[reading.metric].add_metric(reading.labels, reading.value)
    return [*found.values()]
