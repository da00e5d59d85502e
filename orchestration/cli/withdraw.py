"""Withdraw an ingested batch: ``make withdraw BATCH=3 [DATASET=ml-1m]``; without a number it lists the batches.

The next run rebuilds everything without it.
"""

import sys

from ml.data.manifest import Manifest
from ml.data.received import Known
from ml.errors import DataError
from ml.files import read_parquet
from ml.published.locations import tables_directory
from orchestration.config import locks
from orchestration.config.data_sets import source_of
from orchestration.config.settings import settings
from orchestration.resources.raw_data import RECEIVED, received_of


def main(number: str = "", dataset: str = "") -> int:
    """Withdraw, or list; gives the exit status. Raises DataError and NotFoundError."""
    dataset = _chosen(dataset)
    received = received_of(dataset, source_of(dataset).format)
    if not number:
        sys.stdout.write(listing(received.manifest))
        return 0
    if not (number.isascii() and number.isdecimal()):
        raise DataError(f"BATCH={number!r}; expected a number from the list that make withdraw prints")
    with locks.turn() as turn:
        for _ in turn:
            raise DataError("a run is in progress; try again when it has ended (make ui shows it)")
        manifest = received.withdraw(int(number), _known(dataset))
    file = manifest.entries[int(number) - 1].file
    sys.stdout.write(f"{dataset}: {file} is withdrawn; make run RETRAIN=1 rebuilds everything without it\n")
    return 0


def listing(manifest: Manifest) -> str:
    """One line per batch."""
    lines = [
        f"{entry.sequence:>6}  ingestion {entry.ingestion:>4}  {entry.kind:<7}  {entry.date}  {entry.rows:>9,} rows"
        f"{'  withdrawn' if entry.withdrawn else ''}\n"
        for entry in manifest.entries
    ]
    return "".join(lines) or "nothing was ingested\n"


def _chosen(dataset: str) -> str:
    """The data set of this name, or the only one that has ingested batches. Raises DataError."""
    folder = settings().local_home / RECEIVED
    datasets = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not dataset and len(datasets) == 1:
        return datasets[0]
    if dataset not in datasets:
        raise DataError(f"DATASET={dataset!r}; expected one of {', '.join(datasets) or 'none: nothing was ingested'}")
    return dataset


def _known(dataset: str) -> Known:
    tables = tables_directory(settings().home, dataset)
    users, movies = (
        read_parquet(tables / f"raw_{kind}.parquet", [column])[column]
        for kind, column in (("users", "user_id"), ("movies", "movie_id"))
    )
    return Known(users, movies)
