"""Define the faults of a night."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

import numpy as np

from tests.soak.home import MODELS, NIGHT_SECONDS, Home, kill_group

Fault = Callable[[Home, np.random.Generator], None]
FIRST_STEP = "raw_movielens"  # the base files are read only in the first night
STEPS = (
    "ingest_batches", "users", "movies", "ratings", "interactions", "data_drift", "feature_map",
    "encoded_interactions", "split_interactions", "collaborative_features", *MODELS,
    "baseline_scores", "baseline_metrics", "rank_catalogue_by_baselines",
    *(f"{does}_{model}" for does in ("evaluate", "rank_catalogue_by") for model in MODELS),
    "model_comparison", "promotion", "top10_recommendations", "pruned_versions",
)  # fmt: skip
_AN_HOUR = "-3600s"
_HOST, _SERVER_SECONDS = "127.0.0.1", 60


def kill_step(step: str) -> Fault:
    """Kill -9 the process of one step in its first seconds; the rest of the run ends by itself."""

    def fault(home: Home, rng: np.random.Generator) -> None:
        logged = home.log.stat().st_size if home.log.exists() else 0
        with home.start() as process:
            pid = home.step_process(step, process, logged)
            assert pid is not None, f"the run ended without {step}"
            time.sleep(rng.uniform(0, 3))
            with suppress(ProcessLookupError):  # it may have finished
                os.kill(pid, signal.SIGKILL)
            process.wait(NIGHT_SECONDS)

    return fault


def power_failure(home: Home, rng: np.random.Generator) -> None:
    """Kill every process at once, at a random time."""
    with home.start() as process:
        time.sleep(rng.uniform(3, 40))
        kill_group(process)


def kill_run(home: Home, rng: np.random.Generator) -> None:
    """Kill -9 only the run's process; its steps may continue, and the next run starts at once."""
    with home.start() as process:
        time.sleep(rng.uniform(5, 30))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        home.run()


def cancel(home: Home, rng: np.random.Generator) -> None:
    """Cancel the run."""
    with home.start() as process:
        time.sleep(rng.uniform(3, 30))
        process.send_signal(signal.SIGINT)
        process.wait(NIGHT_SECONDS)


def disk_full(home: Home, rng: np.random.Generator) -> None:
    """Limit the size of files: writing a larger one fails in the middle."""
    home.run(file_size=int(rng.choice([20, 60, 150, 400])))


def mlflow_unreachable(home: Home, rng: np.random.Generator) -> None:
    """Run without a tracking server."""
    with socket.socket() as bound:
        bound.bind((_HOST, 0))
        home.run({"MLFLOW_TRACKING_URI": f"http://{_HOST}:{bound.getsockname()[1]}"})


def mlflow_stops(home: Home, rng: np.random.Generator) -> None:
    """Stop the tracking server at a random time of the run."""
    with socket.socket() as bound:
        bound.bind((_HOST, 0))
        port = str(bound.getsockname()[1])
    store = ("--backend-store-uri", f"sqlite:///{home.folder}/mlflow.db")
    store += ("--artifacts-destination", str(home.folder / "mlflow-artifacts"))
    command = [sys.executable, "-m", "mlflow", "server", *store, "--host", _HOST, "--port", port, "--workers", "1"]
    home.folder.mkdir(parents=True, exist_ok=True)
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        _await_port(int(port))
        with home.start({"MLFLOW_TRACKING_URI": f"http://{_HOST}:{port}"}) as process:
            time.sleep(rng.uniform(5, 40))
            kill_group(server)
            process.wait(NIGHT_SECONDS)
    finally:
        kill_group(server)


def _await_port(port: int) -> None:
    deadline = time.monotonic() + _SERVER_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection((_HOST, port), timeout=1):
            return
        time.sleep(0.2)
    raise AssertionError(f"the tracking server did not respond within {_SERVER_SECONDS} s")


def two_at_once(home: Home, rng: np.random.Generator) -> None:
    """Start a second run while the first is in progress."""
    with home.start() as first:
        time.sleep(rng.uniform(0, 10))
        with home.start() as second:
            assert first.wait(NIGHT_SECONDS) == 0, "the first run failed"
            assert second.wait(NIGHT_SECONDS) == 0, "the second run failed"


def clock_back(home: Home, rng: np.random.Generator) -> None:
    """Set the clock an hour back. Needs the package libfaketime."""
    from libfaketime import get_reload_information

    _, preload = get_reload_information()
    assert home.run({**preload, "FAKETIME": _AN_HOUR}) == 0, "the run failed"


KINDS: Mapping[str, tuple[Fault, ...]] = {
    "kill_step": tuple(map(kill_step, STEPS)),
    "power_failure": (power_failure,),
    "kill_run": (kill_run,),
    "cancel": (cancel,),
    "disk_full": (disk_full,),
    "mlflow_unreachable": (mlflow_unreachable,),
    "mlflow_stops": (mlflow_stops,),
    "two_at_once": (two_at_once,),
    "clock_back": (clock_back,),
}
