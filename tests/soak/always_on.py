"""Run what stays up all year: the UI with its daemon, the REST service, a reader of it, and a webhook."""

import subprocess
import sys
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from orchestration.config.settings import PROJECT_ROOT
from tests.servers.processes import graphql
from tests.soak.home import DATASET, NIGHT_SECONDS, Home
from tests.soak.reader import Reader
from tests.soak.webhook import Webhook
from tests.waiting import free_port, until

_START_SECONDS, _STOP_SECONDS, _ASK_SECONDS = 180, 60, 30
_MIB = 2**20
_SENSOR = {
    "repositoryName": "__repository__",
    "repositoryLocationName": "movie_recommender",
    "sensorName": "arrivals",
}
_START = "mutation ($sensor: SensorSelector!) { startSensor(sensorSelector: $sensor) { __typename } }"
_STOP = "mutation ($id: String!) { stopSensor(id: $id) { __typename } }"
_STATE = "query ($sensor: SensorSelector!) { sensorOrError(sensorSelector: $sensor) { ... on Sensor { id } } }"


class AlwaysOn:
    """The servers of a home.

    Args:
        home: whose servers they are; it has a champion.
        folder: directory of their logs and settings.
    """

    def __init__(self, home: Home, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._home, self._folder = home, folder
        self._web, self._mlflow, self._rest = (free_port() for _ in range(3))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        model = home.models[0]
        self.reader = Reader(self._rest, model, home.folder / "archive" / DATASET / model)
        self._answers = 0
        with ExitStack() as started:  # if one cannot be started, those before it are stopped
            self.webhook = started.enter_context(Webhook())
            started.callback(self._kill_all)
            self.start_daemon()
            self._start("service", ["-m", "app.service"], self._rest, "/readyz")
            self.reader.start()
            started.callback(self.reader.stop)
            self._started = started.pop_all()

    def start_daemon(self) -> None:
        """Start ``make ui``: Dagster's webserver, daemon and code server, and MLflow; one that runs is killed first."""
        if "daemon" in self._processes:  # the year was resumed while it was away
            self.stop_daemon()
        self._start("daemon", ["-m", "orchestration", "ui"], self._web, "/server_info")

    def stop_daemon(self) -> None:
        """Kill it at once, with all its processes."""
        _kill_tree(self._processes.pop("daemon"))

    def memory(self) -> dict[str, int]:
        """Return the memory of each server with its children, MiB; what they share counts once."""
        return {name: _memory(process.pid) // _MIB for name, process in self._processes.items()}

    def problems(self) -> list[str]:
        """Return what went wrong since the last call: wrong answers, and servers that have ended."""
        ended = [f"the {name} has ended" for name, process in self._processes.items() if process.poll() is not None]
        try:
            until(lambda: self.reader.answers > self._answers, _ASK_SECONDS)  # a night may be shorter than its pauses
        except AssertionError as error:
            ended.append(f"the reader has asked for nothing: {error}")
        if not self.reader.is_alive():
            ended.append("the reader has ended")
        self._answers = self.reader.answers
        return ended + self.reader.problems()

    def pause(self, action: Callable[[], None]) -> None:
        """Do something while the daemon stands still, so that it writes nothing."""
        paused = _tree(self._processes["daemon"].pid) if "daemon" in self._processes else []
        try:
            for process in paused:
                with suppress(psutil.NoSuchProcess):
                    process.suspend()
            action()
        finally:
            for process in paused:
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    def run_by_sensor(self) -> bool:
        """Let the sensor ``arrivals`` launch a run of what has arrived; gives whether it succeeded."""
        before = self._runs()
        self._ask(_START, sensor=_SENSOR)
        try:
            until(lambda: len(self._runs()) > len(before), NIGHT_SECONDS)
            [run] = self._runs().keys() - before.keys()
            until(lambda: self._runs()[run] in ("SUCCESS", "FAILURE", "CANCELED"), NIGHT_SECONDS)
            return self._runs()[run] == "SUCCESS"
        finally:
            found = self._ask(_STATE, sensor=_SENSOR)["sensorOrError"]
            self._ask(_STOP, id=found["id"])

    def stop(self) -> None:
        """Stop all of them."""
        self._started.close()

    def _kill_all(self) -> None:
        for process in self._processes.values():
            _kill_tree(process)

    def _start(self, name: str, arguments: Sequence[str], port: int, path: str) -> None:
        config = self._folder / "serving.yaml"
        own = yaml.safe_load((PROJECT_ROOT / "serving.yaml").read_text("utf-8"))
        config.write_text(yaml.safe_dump({**own, "refresh_seconds": 1, "experiment": None}), "utf-8")
        variables = {
            "DAGSTER_PORT": self._web,
            "MLFLOW_PORT": self._mlflow,
            "SERVE_PORT": self._rest,
            "SERVE_DATASET": DATASET,
            "SERVING_YAML": config,
            "ALERT_WEBHOOK_URL": self.webhook.url,
        }
        environment = {**self._home.environment(), **{key: str(value) for key, value in variables.items()}}
        with (self._folder / f"{name}.log").open("ab") as log:
            # Where SIGINT is ignored, as in a script's background, Dagster's servers would ignore SIGTERM too.
            command = ["env", "--default-signal=INT", sys.executable, *arguments]
            self._processes[name] = subprocess.Popen(
                command, env=environment, cwd=PROJECT_ROOT, stdout=log, stderr=log, start_new_session=True
            )
        until(lambda: _answers(f"http://127.0.0.1:{port}{path}"), _START_SECONDS)

    def _runs(self) -> dict[str, str]:
        """Return the statuses of Dagster's runs by id."""
        found = self._ask("query { runsOrError { ... on Runs { results { runId status } } } }")
        return {run["runId"]: run["status"] for run in found["runsOrError"]["results"]}

    def _ask(self, query: str, **variables: object) -> dict[str, Any]:
        return graphql(self._web, query, variables)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5):
            return True
    except OSError:
        return False


def _tree(pid: int) -> list[psutil.Process]:
    """Return a process and its children; nothing if it has ended."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _memory(pid: int) -> int:
    """Return the proportional set size of a process and its children, bytes."""
    total = 0
    for process in _tree(pid):
        with suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total


def _kill_tree(process: "subprocess.Popen[bytes]") -> None:
    """Kill a process and its children, and wait for their ends."""
    processes = _tree(process.pid)
    for each in processes:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    process.wait(_STOP_SECONDS)
    psutil.wait_procs(processes, _STOP_SECONDS)
