"""Readings of what is published, and of the files that arrive."""

import datetime as dt
import math
import shutil
from collections.abc import Iterator

from pyarrow.parquet import read_metadata
from upath import UPath

from ml.data.incoming import MEANT, visible
from ml.data.ingestion import PENDING, QUARANTINE
from ml.data.manifest import Manifest
from ml.files import parse_json
from ml.published.champions import ModelArchive
from ml.published.locations import tables_directory
from orchestration.config.settings import settings
from orchestration.exporter.catalog import CHAMPION, QUALITY, Reading
from orchestration.resources.raw_data import RECEIVED
from orchestration.steps.promotion import Verdict

_REPORT = ".json"  # end of the name of a report in quarantine


def publication(dataset: str, model: str) -> Iterator[Reading]:
    """The published version of a model, with its metrics. Raises DataError and OSError."""
    archive = ModelArchive(settings().home, dataset, model)
    champion = archive.champion()
    if champion is None:
        return
    of = (dataset, model)
    yield Reading("published_version", int(champion.number), of)
    yield Reading("published_timestamp_seconds", archive.pointer.stat().st_mtime, of)
    for name, value in champion.metrics().items():
        if name in QUALITY and math.isfinite(value):
            yield Reading(f"{CHAMPION}{name}", value, (*of, champion.number))
    yield Reading("table_rows", _rows(champion.table), (dataset, f"top10_{model}"))


def gates(dataset: str) -> Iterator[Reading]:
    """Which gates the challengers pass. Raises DataError."""
    path = tables_directory(settings().home, dataset) / "promotion.json"
    if not path.exists():
        return
    for model, document in parse_json(path.read_bytes(), str(path)).items():
        verdict = Verdict.from_dict(document)
        yield Reading("challenger_version", int(verdict.challenger.version), (dataset, model))
        for finding in verdict.findings:
            yield Reading("gate_passed", finding.passed, (dataset, model, finding.name))


def arrivals(dataset: str) -> Iterator[Reading]:
    """The batches that were ingested, and the files that were not. Raises DataError."""
    of, incoming = (dataset,), settings().incoming / dataset
    waiting = [path for path in visible(incoming) if MEANT.match(path.name)]
    yield Reading("incoming_files", len(waiting), of)
    yield Reading("pending_files", len(visible(incoming / PENDING)), of)
    invalid = [path for path in visible(incoming / QUARANTINE) if path.suffix != _REPORT]
    yield Reading("quarantined_files", len(invalid), of)
    batches = [
        entry for entry in Manifest.load(settings().local_home / RECEIVED / dataset).entries if not entry.withdrawn
    ]
    yield Reading("ingestion_batches", len(batches), of)
    if batches:
        newest = dt.datetime.fromisoformat(max(entry.date for entry in batches)).replace(tzinfo=dt.UTC)
        yield Reading("newest_batch_timestamp_seconds", newest.timestamp(), of)


def disk() -> Iterator[Reading]:
    """The space on the file system of the home.

    What the home itself uses is not summed up: that would visit every file at each scrape.
    """
    if not settings().local_home.exists():  # before the first run
        return
    found = shutil.disk_usage(settings().local_home)
    yield Reading("disk_size_bytes", found.total)
    yield Reading("disk_free_bytes", found.free)


def _rows(table: UPath) -> int:
    """Rows of a Parquet table, from its last bytes."""
    with table.open("rb") as file:
        return int(read_metadata(file).num_rows)
