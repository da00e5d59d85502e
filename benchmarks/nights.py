"""Measure the cost of a night as the data grows, step by step: ``make bench-nights``.

Uses separate homes with synthetic data of one, two and four times a size (users and ratings; the number of movies stays
the same), and one recipe with a warm start. In each home, a first run trains from scratch; then a night ingests the
same number of new ratings. Writes ``bench/nights.json`` under PIPELINE_HOME.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import yaml

from benchmarks.common import say, write_json
from ml.data.synthetic import FULL, write_synthetic
from orchestration.config.settings import PROJECT_ROOT, settings

_FACTORS = (1, 2, 4)
_USERS, _RATINGS, _ZIPS = 755, 125_000, 600  # of the smallest size
_NEW = 1000  # ratings per night
_MODEL = "autoint"
_NIGHT = 1_046_476_800  # midnight of 2003-03-01, UTC, after all ratings of the data
_SHOWN = 4000  # characters of the log of a failed run


class Home:
    """A pipeline home with data of one size.

    Args:
        folder: directory of everything.
        factor: multiple of the smallest size.
    """

    def __init__(self, folder: Path, factor: int) -> None:
        self._folder, self._data = folder, folder / "films"
        size = replace(FULL, users=factor * _USERS, ratings=factor * _RATINGS, zips=_ZIPS)
        write_synthetic(self._data, size, seed=1)
        recipes = yaml.safe_load(settings().recipes_yaml.read_text("utf-8"))["recipes"]
        # With the recipe's own learning rate, it is barely better than chance on so few rows, which stops the run.
        recipe = {_MODEL: {**recipes[_MODEL], "training": {"learning_rate": 1e-3}, "warm_start": {}}}
        (folder / "recipes.yaml").write_text(yaml.safe_dump({"recipes": recipe}), "utf-8")
        gates = yaml.safe_load(settings().mlflow_yaml.read_text("utf-8"))
        # Quality on synthetic data means nothing, and every night must start from the previous one.
        gates["promotion"] = {_MODEL: {"metric": "ndcg_at_10", "below_champion": 1, "below_movie_mean": 1}}
        (folder / "mlflow.yaml").write_text(yaml.safe_dump(gates), "utf-8")

    def run(self) -> dict[str, float]:
        """Rebuild what is stale and return the seconds of each step. If it fails, exit with the end of its log."""
        variables = {
            "PIPELINE_HOME": self._folder / "home",
            "DAGSTER_HOME": self._folder / "dagster",
            "RECIPES_YAML": self._folder / "recipes.yaml",
            "MLFLOW_YAML": self._folder / "mlflow.yaml",
        }
        command = [sys.executable, "-m", "orchestration", "execute", str(self._data), "random", "bench"]
        environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
        log = self._folder / "run.log"
        with log.open("wb") as output:
            done = subprocess.run(command, cwd=PROJECT_ROOT, env=environment, stdout=output, stderr=output, check=False)  # noqa: S603
        if done.returncode:
            sys.exit(f"error: a run failed\n{log.read_text()[-_SHOWN:]}")
        return self._seconds()

    def send(self) -> None:
        """Put a night's ratings, by random users of random movies, into the incoming directory."""
        rng = np.random.default_rng(1)
        base = pd.read_csv(self._data / "ratings.dat", sep="::", engine="python", header=None, encoding="latin-1")
        pairs = zip(*(rng.choice(base[column].unique(), _NEW) for column in (0, 1)), strict=True)
        lines = [f"{user}::{movie}::{rng.integers(1, 6)}::{_NIGHT + at}" for at, (user, movie) in enumerate(pairs)]
        folder = self._folder / "home" / "incoming" / self._data.name
        folder.mkdir(parents=True, exist_ok=True)
        name = "ratings-2003-03-01.dat"
        (folder / f".{name}").write_text("\n".join(lines) + "\n")
        (folder / f".{name}").rename(folder / name)

    def _seconds(self) -> dict[str, float]:
        with dg.DagsterInstance.from_config(str(self._folder / "dagster")) as instance:
            [record] = instance.get_run_records(limit=1)
            stats = instance.get_run_step_stats(record.dagster_run.run_id)
            whole = (record.end_time or 0) - (record.start_time or 0)
        steps = {stat.step_key: stat.end_time - stat.start_time for stat in stats if stat.end_time and stat.start_time}
        return {**steps, "whole run": whole}


def main() -> int:
    """Run the benchmark and return the exit status."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory(prefix="nights-") as folder:
        for factor in _FACTORS:
            home = Home(Path(folder) / str(factor), factor)
            first = home.run()
            home.send()
            found[f"{factor}x"] = {**home.run(), f"{_MODEL}, from scratch": first[_MODEL]}
            say(f"a night with {_NEW} new ratings on {factor * _RATINGS:,}, seconds", _rows(found))
    write_json(settings().home / "bench" / "nights.json", {"new_ratings": _NEW, "ratings": _RATINGS, "seconds": found})
    return 0


def _rows(found: Mapping[str, Mapping[str, float]]) -> list[dict[str, object]]:
    """Return one row per step, slowest first, with the last size's seconds divided by the first's."""
    sizes = list(found)
    steps = sorted(found[sizes[-1]], key=lambda step: -found[sizes[-1]][step])
    rows = []
    for step in steps:
        own = {size: found[size].get(step, float("nan")) for size in sizes}
        rows.append({"step": step, **own, f"{sizes[-1]} / {sizes[0]}": own[sizes[-1]] / own[sizes[0]]})
    return rows


if __name__ == "__main__":
    sys.exit(main())
