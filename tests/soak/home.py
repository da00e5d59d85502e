"""Provide a pipeline home whose runs are processes that can be killed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import dagster as dg
import numpy as np
import yaml

from ml.data.synthetic import SMALL, write_synthetic
from orchestration.config.settings import PROJECT_ROOT
from tests.environment import Environment
from tests.soak.warm import WarmStart
from tests.waiting import free_port

HERE = Path(__file__).parent
MODELS = ("autoint", "autoint_mlp")
DATASET, OTHER_DATASET = "films", "plays"
_SEEDS = {DATASET: 42, OTHER_DATASET: 43}  # of their base files
NIGHT_SECONDS = 600
_RUNS_KEPT = 40  # so that a year shows whether the history is bounded
TRACKING_URI = "MLFLOW_TRACKING_URI"
_ONCE_A_YEAR = "0 0 1 1 *"  # the schedule's time: the soak test starts the nights


class Running(Protocol):
    """What is used of a process."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit status; None while it runs."""

    def wait(self, timeout: float = ...) -> int:
        """Wait for its end and return the exit status."""

    def send_signal(self, number: int) -> None:
        """Send it a signal."""


class Home:
    """A pipeline home.

    Args:
        folder: directory of everything; created if missing.
        models: recipes to train.
        is_warm: whether runs fork from a process that has imported everything.
    """

    def __init__(self, folder: Path, models: Sequence[str] = MODELS, is_warm: bool = False) -> None:
        self.folder, self.log, self.is_warm = folder / "home", folder / "run.log", is_warm
        self._base, self._recipes = folder, folder / "recipes.yaml"
        self._warm: dict[str, WarmStart] = {}  # by the tracking server
        self.mlflow_port = free_port()  # of a tracking server, in nights with one
        self.models: tuple[str, ...] = ()
        self.training: dict[str, float] = {}
        self.train(models)
        self.data, self.other_data = (self._written(folder / name) for name in (DATASET, OTHER_DATASET))

    @staticmethod
    def _written(data: Path) -> Path:
        if not data.exists():
            write_synthetic(data, SMALL, seed=_SEEDS[data.name])
        return data

    def train(self, models: Sequence[str], **training: float) -> None:
        """Write recipes.yaml: the recipes to train from now on, with other settings of their training if given."""
        book = yaml.safe_load((HERE / "recipes.yaml").read_text("utf-8"))["recipes"]
        recipes = {name: {**book[name], "training": {**book[name]["training"], **training}} for name in models}
        self._base.mkdir(parents=True, exist_ok=True)
        self._recipes.write_text(yaml.safe_dump({"recipes": recipes}), "utf-8")
        self.models, self.training = tuple(models), training
        self.cool()  # it has read the recipes of before

    @property
    def tables(self) -> Path:
        """Return the directory of the tables."""
        return self.folder / "tables" / DATASET

    @property
    def incoming(self) -> Path:
        """Return the incoming directory."""
        return self.folder / "incoming" / DATASET

    def codes(self) -> dict[str, list[Any]]:
        """Return the values of each feature in index order; empty before the first night."""
        path = self.tables / "feature_map.json"
        fields = json.loads(path.read_bytes())["fields"] if path.exists() else []
        return {field["name"]: field["values"] for field in fields}

    def environment(self) -> dict[str, str]:
        """Return the environment of a run in this home."""
        variables = {
            "PIPELINE_HOME": self.folder,
            "DAGSTER_HOME": self.folder / "dagster",
            "MOVIELENS_DIR": self.data,
            "RECIPES_YAML": self._recipes,
            "MLFLOW_YAML": HERE / "mlflow.yaml",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": 1,
            "SCHEDULE_CRON": _ONCE_A_YEAR,
            "DAGSTER_RUNS_KEPT": _RUNS_KEPT,
            "OPENBLAS_NUM_THREADS": 1,  # on small data, threads wait more than they compute
        }
        return {**os.environ, **{name: str(value) for name, value in variables.items()}}

    @contextmanager
    def start(
        self, variables: Mapping[str, str] | None = None, before: Sequence[str] = (), data: Path | None = None
    ) -> Iterator[Running]:
        """Start a run in a separate process group, which is killed at the end.

        Args:
            variables: more environment variables.
            before: command that starts the run's, such as one that limits what it may do.
            data: base files; those of ``DATASET`` if not given.
        """
        arguments = [str(data or self.data), "random", "soak"]
        own = variables or {}
        if self.is_warm and own.keys() <= {TRACKING_URI} and not before:
            process: Running = self.warmed(own.get(TRACKING_URI, "")).run(arguments, self.log)
        else:
            execute = [sys.executable, "-m", "orchestration", "execute"]
            process = self._command([*before, *execute, *arguments], own)
        try:
            yield process
        finally:
            kill_group(process)

    def run(self, variables: Mapping[str, str] | None = None, before: Sequence[str] = ()) -> int:
        """Run to the end and return the exit status."""
        with self.start(variables, before) as process:
            return process.wait(NIGHT_SECONDS)

    def command(self, *arguments: str) -> int:
        """Run another of the project's commands to the end and return the exit status."""
        process = self._command([sys.executable, "-m", "orchestration", *arguments], {})
        try:
            return process.wait(NIGHT_SECONDS)
        finally:
            kill_group(process)

    def cool(self) -> None:
        """End the processes that runs fork from; the next ones have the settings of their time."""
        for process in self._warm.values():
            process.stop()
        self._warm = {}

    def warmed(self, server: str = "") -> WarmStart:
        """Return the process that runs with this tracking server fork from; without one if not given."""
        if server not in self._warm:
            own = {TRACKING_URI: server} if server else {}
            self._warm[server] = WarmStart({**self.environment(), **own})
        return self._warm[server]

    def _command(self, command: Sequence[str], variables: Mapping[str, str]) -> "subprocess.Popen[bytes]":
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                cwd=PROJECT_ROOT,
                env={**self.environment(), **variables},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """Open the Dagster instance; it is where this process's settings say."""
        with Environment.context() as patch:
            patch.setenv("DAGSTER_HOME", str(self.folder / "dagster"))
            with dg.DagsterInstance.from_config(str(self.folder / "dagster")) as instance:
                yield instance

    def step_process(self, step: str, process: Running, logged: int) -> int | None:
        """Wait for a step to start and return its process id; None if the run ends without it.

        Args:
            step: name of the step.
            process: the run.
            logged: size of the log when the run was started.
        """
        begun = re.compile(rf" - (\d+) - {step} - STEP_WORKER_STARTED ".encode())
        deadline = time.monotonic() + NIGHT_SECONDS
        while time.monotonic() < deadline:
            ended = process.poll() is not None
            # From the log, because a query could create the Dagster database at the same time as the run.
            found = begun.search(self._logged_since(logged)) if self.log.exists() else None
            if found or ended:
                return int(found[1]) if found else None
            time.sleep(0.1)
        return None

    def _logged_since(self, size: int) -> bytes:
        with self.log.open("rb") as log:
            log.seek(size)
            return log.read()


def kill_group(process: Running) -> None:
    """Kill a run and all its steps at once, as in a power failure."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def pause(rng: np.random.Generator, least: float, most: float) -> None:
    """Sleep for a random time, seconds."""
    time.sleep(rng.uniform(least, most))
