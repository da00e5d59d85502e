"""Who is at work in a home: one run at a time, and runs that died are told from those that live.

All by locks on files, which the operating system releases when their holder ends, however it ends.
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
    """Be known as alive inside."""
    path = _folder() / f"run-{run_id}"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def is_living(run_id: str) -> bool | None:
    """Whether a run is inside ``living``; None where it has never been, or has left it in good order."""
    path = _folder() / f"run-{run_id}"
    if not path.exists():
        return None
    with path.open("a") as file:
        return not _taken(file, fcntl.LOCK_EX)


def remove_dead(ended: Callable[[str], bool]) -> list[str]:
    """Remove what runs left that died inside ``living``; gives their ids.

    Args:
        ended: whether a run is known to have ended; one that only begins must not lose its file.
    """
    runs = [path.name.removeprefix("run-") for path in _folder().glob("run-*")]
    dead = [run_id for run_id in runs if ended(run_id) and not is_living(run_id)]
    for run_id in dead:
        (_folder() / f"run-{run_id}").unlink(missing_ok=True)
    return dead


@contextmanager
def turn() -> Iterator[Iterator[None]]:
    """Give an iterator that ends once this process alone may write here, until the end; it yields while it has to wait.

    Steps of a run that died hold a lock of their own for as long as they go on, and are waited for too.
    """
    with (_folder() / "turn").open("a") as run, (_folder() / "steps").open("a") as steps:

        def waiting() -> Iterator[None]:
            for file in (run, steps):
                while not _taken(file, fcntl.LOCK_EX):
                    yield
            fcntl.flock(steps, fcntl.LOCK_UN)

        yield waiting()


@contextmanager
def step() -> Iterator[None]:
    """Hold up the next run inside."""
    with (_folder() / "steps").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield


def _taken(file, kind: int) -> bool:  # type: ignore[no-untyped-def]
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
