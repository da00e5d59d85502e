"""Define the faults of a night in a home of this machine."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from tests.servers.processes import listens
from tests.soak.disk import Disk
from tests.soak.home import MODELS, NIGHT_SECONDS, TRACKING_URI, Home, kill_group, pause
from tests.waiting import until

if TYPE_CHECKING:
    from tests.soak.always_on import AlwaysOn

FIRST_STEP = "raw_movielens"  # the base files are read only in the first night
_BEFORE_MODELS = (
    "ingest_batches", "users", "movies", "ratings", "interactions", "data_drift", "data_report", "feature_map",
    "encoded_interactions", "split_interactions", "baseline_scores", "baseline_metrics", "rank_catalogue_by_baselines",
)  # fmt: skip
_AFTER_MODELS = ("model_comparison", "promotion", "top10_recommendations", "pruned_versions")
_HOST, _SERVER_SECONDS = "127.0.0.1", 60
_LEFT_KIB = (0, 100, 1000, 4000)  # on a disk that is almost full


def steps(models: Sequence[str] = MODELS) -> tuple[str, ...]:
    """Return the steps of a run that trains these models."""
    own = (f"{does}{model}" for model in models for does in ("", "evaluate_", "rank_catalogue_by_"))
    return (*_BEFORE_MODELS, *own, *_AFTER_MODELS)


@dataclass(frozen=True)
class Night:
    """What a fault is made of.

    Attributes:
        home: that it happens in.
        rng: random generator of its times.
        deliver: sends more files.
        update: changes recipes.yaml.
        servers: daemon, REST service and webhook of the home; None where a single night is tested.
        disk: that only the home is on; None where a single night is tested.
    """

    home: Home
    rng: np.random.Generator
    deliver: Callable[[], None]
    update: Callable[[], None]
    servers: "AlwaysOn | None" = None
    disk: Disk | None = None

    def pause(self, least: float, most: float) -> None:
        """Sleep for a random time, seconds."""
        pause(self.rng, least, most)


Fault = Callable[[Night], None]


@cache
def kill_step(step: str) -> Fault:
    """Kill -9 the process of one step in its first seconds; the rest of the run ends by itself."""

    def fault(night: Night) -> None:
        log = night.home.log
        logged = log.stat().st_size if log.exists() else 0
        with night.home.start() as process:
            pid = night.home.step_process(step, process, logged)
            assert pid is not None, f"the run ended without {step}"
            night.pause(0, 1.5)
            with suppress(ProcessLookupError):  # it may have finished
                os.kill(pid, signal.SIGKILL)
            process.wait(NIGHT_SECONDS)

    return fault


def power_failure(night: Night) -> None:
    """Kill every process at once, at a random time."""
    with night.home.start() as process:
        night.pause(1, 25)
        kill_group(process)


def kill_run(night: Night) -> None:
    """Kill -9 only the run's process; its steps may continue, and the next run starts at once."""
    with night.home.start() as process:
        night.pause(1, 15)
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        night.home.run()


def cancel(night: Night) -> None:
    """Cancel the run."""
    with night.home.start() as process:
        night.pause(1, 20)
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        process.wait(NIGHT_SECONDS)


def disk_full(night: Night) -> None:
    """Run, with the daemon and the service, on a disk that has almost no space left."""
    assert night.disk
    with night.disk.nearly_full(int(night.rng.choice(_LEFT_KIB))):
        night.home.run()


def read_only(night: Night) -> None:
    """Start a run that cannot write to the home; after a while, it can."""
    folder, seconds = str(night.home.folder), f"{night.rng.uniform(3, 25):.1f}"
    # In a mount namespace of its own, so that only the run is concerned.
    script = f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder} || exit 99; "
    script += f'(sleep {seconds}; mount -o remount,bind,rw {folder}) & exec "$@"'
    assert night.home.run(before=["unshare", "--mount", "sh", "-c", script, "run"]) != 99, "not mounted"


def mlflow_unreachable(night: Night) -> None:
    """Run without a tracking server."""
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((_HOST, night.home.mlflow_port))  # so that nobody listens there
        night.home.run({TRACKING_URI: _address(night.home)})


def mlflow_stops(night: Night) -> None:
    """Stop the tracking server at a random time of the run."""
    with (
        _mlflow(night.home) as server,
        night.home.start({TRACKING_URI: _address(night.home)}) as process,
    ):
        night.pause(5, 40)
        kill_group(server)
        process.wait(NIGHT_SECONDS)


@contextmanager
def _mlflow(home: Home) -> Iterator["subprocess.Popen[bytes]"]:
    """Serve the home's own database and artifacts."""
    port = home.mlflow_port
    store = ["--backend-store-uri", f"sqlite:///{home.folder}/mlflow.db"]
    store += ["--artifacts-destination", str(home.folder / "mlflow-artifacts")]
    command = [sys.executable, "-m", "mlflow", "server", *store, "--host", _HOST, "--port", str(port), "--workers", "1"]
    home.folder.mkdir(parents=True, exist_ok=True)
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        until(lambda: listens(port), _SERVER_SECONDS)
        yield server
    finally:
        kill_group(server)


def _address(home: Home) -> str:
    return f"http://{_HOST}:{home.mlflow_port}"


def two_at_once(night: Night) -> None:
    """Start a second run while the first is in progress."""
    with night.home.start() as first:
        night.pause(0, 10)
        with night.home.start() as second:
            assert first.wait(NIGHT_SECONDS) == 0, "the first run failed"
            assert second.wait(NIGHT_SECONDS) == 0, "the second run failed"


def other_data_set(night: Night) -> None:
    """Run another data set of the home, and this one's run while that is in progress."""
    with night.home.start(data=night.home.other_data) as other:
        night.pause(0, 10)
        with night.home.start() as own:
            assert other.wait(NIGHT_SECONDS) == 0, "the other data set's run failed"
            assert own.wait(NIGHT_SECONDS) == 0, "the run failed"


def delivery_during_run(night: Night) -> None:
    """Send files while a run is in progress."""
    with night.home.start() as process:
        night.pause(0, 15)
        night.deliver()
        assert process.wait(NIGHT_SECONDS) == 0, "the run failed"


def code_update(night: Night) -> None:
    """Change recipes.yaml while a run is in progress."""
    with night.home.start() as process:
        night.pause(0, 15)
        night.update()
        process.wait(NIGHT_SECONDS)  # it may fail: its steps have other recipes than its plan


def clock(fake: str, zone: str = "UTC") -> Fault:
    """Run with another clock.

    Args:
        fake: the clock in libfaketime's notation.
        zone: the machine's time zone.
    """

    def fault(night: Night) -> None:
        from libfaketime import get_reload_information

        _, preload = get_reload_information()
        assert night.home.run({**preload, "FAKETIME": fake, "TZ": zone}) == 0, "the run failed"

    return fault


# The offset moves the clock to ten seconds before a change of daylight saving time in Berlin, and lets it go on.
_SUMMER_ENDS, _SUMMER_BEGINS = "@2026-10-25 00:59:50", "@2027-03-28 00:59:50"

KINDS: Mapping[str, tuple[Fault, ...]] = {
    "power_failure": (power_failure,),
    "kill_run": (kill_run,),
    "cancel": (cancel,),
    "disk_full": (disk_full,),
    "read_only": (read_only,),
    "mlflow_unreachable": (mlflow_unreachable,),
    "mlflow_stops": (mlflow_stops,),
    "two_at_once": (two_at_once,),
    "other_data_set": (other_data_set,),
    "delivery_during_run": (delivery_during_run,),
    "code_update": (code_update,),
    "clock_back": (clock("-3600s"),),
    "clock_forward": (clock("+36h"),),
    "summer_time": (clock(_SUMMER_ENDS, "Europe/Berlin"), clock(_SUMMER_BEGINS, "Europe/Berlin")),
}
