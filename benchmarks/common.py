"""Share functions between the benchmarks."""

import io
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from upath import UPath

from ml.files import write_atomically
from ml.published.champions import published_datasets
from ml.published.locations import tables_directory
from orchestration.config.settings import settings


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


def write_json(path: UPath, content: dict[str, Any]) -> None:
    """Write a JSON file atomically."""
    write_atomically(path, f"{json.dumps(content, indent=2)}\n".encode())
