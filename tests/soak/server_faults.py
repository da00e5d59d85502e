"""Define the faults of what stays up: the daemon and its sensor, the webhook; and a person's rollback."""

import json
from collections.abc import Mapping

from tests.soak.always_on import AlwaysOn
from tests.soak.faults import Fault, Night, mlflow_unreachable
from tests.soak.home import DATASET
from tests.waiting import until

_ALERT_SECONDS = 180


def launched_by_sensor(night: Night) -> None:
    """Let the daemon launch the run, as soon as it sees the files."""
    assert _of(night).run_by_sensor(), "the daemon's run failed"


def daemon_goes(night: Night) -> None:
    """Kill the daemon; nobody runs anything tonight."""
    _of(night).stop_daemon()


def nothing_runs(night: Night) -> None:
    """Be a night in which nobody runs anything."""


def daemon_is_back(night: Night) -> None:
    """Start the daemon again, and let it run what has arrived."""
    _of(night).start_daemon()
    launched_by_sensor(night)


def webhook_hangs(night: Night) -> None:
    """Have a run fail, and the next one succeed, while the webhook does not answer; the alert comes when it does."""
    webhook = _of(night).webhook
    webhook.hang(True)
    try:
        mlflow_unreachable(night)
        assert night.home.run() == 0, "the run failed"
        posts = webhook.posts
    finally:
        webhook.hang(False)
    until(lambda: webhook.posts > posts, _ALERT_SECONDS)


def rollback(night: Night) -> None:
    """Publish, and go back to the version before."""
    assert night.home.run() == 0, "the run failed"
    model = night.home.models[0]
    archive = night.home.folder / "archive" / DATASET / model
    *earlier, now = json.loads((archive / "champions.json").read_bytes())
    kept = [version for version in earlier if version != now and (archive / version).exists()]
    assert kept, "no earlier champion is kept"
    assert night.home.command("rollback", model, kept[-1], DATASET) == 0, "the rollback failed"


def _of(night: Night) -> AlwaysOn:
    assert night.servers
    return night.servers


# The last night of a kind is followed by an undisturbed run.
NIGHTS: Mapping[str, tuple[Fault, ...]] = {
    "launched_by_sensor": (launched_by_sensor,),
    "daemon_away": (daemon_goes, nothing_runs, daemon_is_back),
    "webhook_hangs": (webhook_hangs,),
    "rollback": (rollback,),
    "mlflow_away": (mlflow_unreachable, mlflow_unreachable, mlflow_unreachable),
}
