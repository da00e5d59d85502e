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
from typing import Any

import dagster as dg
import yaml

from ml.data.synthetic import SMALL, write_synthetic
from orchestration.config.settings import PROJECT_ROOT
from tests.environment import Environment

HERE = Path(__file__).parent
MODELS = ("autoint", "autoint_mlp")
DATASET = "films"
NIGHT_SECONDS = 600


class Home:
    """A pipeline home with one data set.

    Args:
        folder: directory of everything; created if missing.
        models: recipes to train.
    """

    def __init__(self, folder: Path, models: Sequence[str] = MODELS) -> None:
        self.folder, self.data, self.models = folder / "home", folder / DATASET, models
        self.log, self._recipes = folder / "run.log", folder / "recipes.yaml"
        if not self.data.exists():
            write_synthetic(self.data, SMALL, seed=42)
        recipes = yaml.safe_load((HERE / "recipes.yaml").read_text("utf-8"))["recipes"]
        self._recipes.write_text(yaml.safe_dump({"recipes": {name: recipes[name] for name in models}}), "utf-8")

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
        }
        return {**os.environ, **{name: str(value) for name, value in variables.items()}}

    @contextmanager
    def start(
        self, variables: Mapping[str, str] | None = None, file_size: int | None = None
    ) -> Iterator["subprocess.Popen[bytes]"]:
        """Start a run in a separate process group, which is killed at the end.

        Args:
            variables: more environment variables.
            file_size: maximum size of its files, kB.
        """
        command = [sys.executable, "-m", "orchestration", "execute", str(self.data), "random", "soak"]
        if file_size is not None:
            command = ["bash", "-c", f'ulimit -f {file_size} && exec "$@"', "limited", *command]
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=PROJECT_ROOT,
                env={**self.environment(), **(variables or {})},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            kill_group(process)

    def run(self, variables: Mapping[str, str] | None = None, file_size: int | None = None) -> int:
        """Run to the end and return the exit status."""
        with self.start(variables, file_size) as process:
            return process.wait(NIGHT_SECONDS)

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """Open the Dagster instance; it is where this process's settings say."""
        with Environment.context() as patch:
            patch.setenv("DAGSTER_HOME", str(self.folder / "dagster"))
            with dg.DagsterInstance.from_config(str(self.folder / "dagster")) as instance:
                yield instance

    def step_process(self, step: str, process: "subprocess.Popen[bytes]", logged: int) -> int | None:
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
            found = begun.search(self.log.read_bytes()[logged:])
            if found or ended:
                return int(found[1]) if found else None
            time.sleep(0.1)
        return None


def kill_group(process: "subprocess.Popen[bytes]") -> None:
    """Kill a run and all its steps at once, as in a power failure."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
