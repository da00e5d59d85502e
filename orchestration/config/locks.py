"""Which runs of a home are in progress: one at a time, and crashed runs are told from living ones.

These are locks on files, which the operating system releases when their holder ends, even if it is killed.
"""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestration.config.settings import settings


def _folder() -> Path:
    folder = settings().local_home / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def living(run_id: str) -> Iterator[None]:
    """Inside, ``is_living`` is true for this run."""
    path = _folder() / f"run-{run_id}"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def is_living(run_id: str) -> bool | None:
    """Whether a run is inside ``living``: False if its process crashed there, None if it never entered or has left."""
    path = _folder() / f"run-{run_id}"
    if not path.exists():
        return None
    with path.open("a") as file:
        return not _acquired(file, fcntl.LOCK_EX)


def remove_crashed(ended: Callable[[str], bool]) -> list[str]:
    """Remove the lock files of runs that crashed inside ``living``; gives their ids.

    Args:
        ended: whether a run is known to have ended; a run that is just starting must not lose its file.
    """
    runs = [path.name.removeprefix("run-") for path in _folder().glob("run-*")]
    crashed = [run_id for run_id in runs if ended(run_id) and not is_living(run_id)]
    for run_id in crashed:
        (_folder() / f"run-{run_id}").unlink(missing_ok=True)
    return crashed


@contextmanager
def turn() -> Iterator[Iterator[None]]:
    """Inside, once the given iterator has ended, no other process writes here. It yields as long as it has to wait.

    The steps of a crashed run hold a lock of their own while they still run, and are waited for as well.
    """
    with (_folder() / "turn").open("a") as run, (_folder() / "steps").open("a") as steps:

        def waiting() -> Iterator[None]:
            for file in (run, steps):
                while not _acquired(file, fcntl.LOCK_EX):
                    yield
            fcntl.flock(steps, fcntl.LOCK_UN)

        yield waiting()


@contextmanager
def step() -> Iterator[None]:
    """Inside, no other run begins to write."""
    with (_folder() / "steps").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def _acquired(file, kind: int) -> bool:  # type: ignore[no-untyped-def]
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
