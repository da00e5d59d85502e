"""Undo a delivery that was taken in: ``make withdraw DELIVERY=3 [DATASET=ml-1m]``; without a number it lists them.

The next run makes everything from the rest.
"""

import sys

from ml.data.intake import Intake, Known
from ml.data.ledger import Ledger
from ml.errors import DataError
from ml.files import read_parquet
from ml.inference.locations import tables_directory
from orchestration import run_lock
from orchestration.resources.source import RECEIVED
from orchestration.settings import Settings


def main(number: str = "", dataset: str = "") -> int:
    """Withdraw, or list; gives the exit status. Raises DataError and NotFoundError."""
    dataset = _chosen(dataset)
    intake = Intake(Settings().incoming / dataset, Settings().local_home / RECEIVED / dataset)
    if not number:
        sys.stdout.write(listing(intake.ledger))
        return 0
    if not (number.isascii() and number.isdecimal()):
        raise DataError(f"DELIVERY={number!r}; expected a number as make withdraw lists them")
    with run_lock.turn() as turn:
        for _ in turn:
            raise DataError("a run is at work; try again when it has ended (make ui shows it)")
        ledger = intake.withdraw(int(number), _known(dataset))
    file = ledger.entries[int(number) - 1].file
    sys.stdout.write(f"{dataset}: {file} counts no more; make run RETRAIN=1 makes everything from the rest\n")
    return 0


def listing(ledger: Ledger) -> str:
    """One line a delivery."""
    lines = [
        f"{entry.sequence:>6}  intake {entry.intake:>4}  {entry.kind:<7}  {entry.date}  {entry.rows:>9,} rows"
        f"{'  withdrawn' if entry.withdrawn else ''}\n"
        for entry in ledger.entries
    ]
    return "".join(lines) or "nothing was delivered\n"


def _chosen(dataset: str) -> str:
    """The data set of this name, or the only one, that deliveries came for. Raises DataError."""
    folder = Settings().local_home / RECEIVED
    datasets = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    if not dataset and len(datasets) == 1:
        return datasets[0]
    if dataset not in datasets:
        raise DataError(f"DATASET={dataset!r}; expected one of {', '.join(datasets) or 'none: nothing was delivered'}")
    return dataset


def _known(dataset: str) -> Known:
    tables = tables_directory(Settings().home, dataset)
    users, movies = (
        read_parquet(tables / f"raw_{kind}.parquet", [column])[column]
        for kind, column in (("users", "user_id"), ("movies", "movie_id"))
    )
    return Known(users, movies)
