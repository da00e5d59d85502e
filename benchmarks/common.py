"""Share functions between the benchmarks."""

import io
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from upath import UPath

from ml.features.collaborative_folds import CollaborativeFolds
from ml.files import write_atomically
from ml.published.champions import published_datasets
from ml.published.locations import tables_directory
from orchestration.assets.common import COLLABORATIVE
from orchestration.config.settings import settings

_REPEATS = 7  # of each function in ``rates``


@dataclass(frozen=True)
class Timing:
    """Seconds for a number of rows: wall-clock time and CPU time of all processors."""

    wall: float
    cpu: float
    rows: int

    @classmethod
    def median(cls, timings: Sequence["Timing"]) -> "Timing":
        """Return the median of each clock."""
        walls, cpus = [each.wall for each in timings], [each.cpu for each in timings]
        return cls(statistics.median(walls), statistics.median(cpus), timings[0].rows)


def say(title: str, rows: list[dict[str, Any]], digits: int = 3) -> None:
    """Print a table."""
    table = pd.DataFrame(rows).to_markdown(index=False, tablefmt="simple", floatfmt=f",.{digits}f")
    sys.stdout.write(f"\n{title}\n{table}\n")
    sys.stdout.flush()


def published_dataset(arguments: list[str]) -> tuple[UPath, str]:
    """Return the home and a data set: the requested one, else the first published one. Exits if there is none."""
    home = settings().home
    datasets = arguments or published_datasets(home)
    if not datasets:
        sys.exit(f"error: nothing is published under {home}; run make run first")
    return home, datasets[0]


def read_table(dataset: str, name: str) -> pd.DataFrame:
    """Read a table of the pipeline."""
    path = tables_directory(settings().home, dataset) / f"{name}.parquet"
    return pd.read_parquet(io.BytesIO(path.read_bytes()))


def read_document(dataset: str, name: str) -> Any:
    """Read a JSON document of the pipeline."""
    return json.loads((tables_directory(settings().home, dataset) / f"{name}.json").read_text())


def collaborative_folds(dataset: str) -> CollaborativeFolds:
    """Read the collaborative features of the pipeline."""
    path = tables_directory(settings().home, dataset) / f"{COLLABORATIVE}.npz"
    return CollaborativeFolds.from_bytes(path.read_bytes(), str(path))


def write_json(path: UPath, content: dict[str, Any]) -> None:
    """Write a JSON file atomically."""
    write_atomically(path, f"{json.dumps(content, indent=2)}\n".encode())


def rates(runs: Sequence[Callable[[], object]], rows: int) -> list[float]:
    """Return how many rows each function processes in one second of processor time: the medians, taken in turns."""
    seconds: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()  # compiles
    for _ in range(_REPEATS):
        for run, own in zip(runs, seconds, strict=True):
            begin = time.process_time()
            run()
            own.append(time.process_time() - begin)
    return [rows / statistics.median(own) for own in seconds]
