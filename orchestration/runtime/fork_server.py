"""The server that the processes of a run's steps fork from."""

import multiprocessing
from multiprocessing import forkserver

METHOD = "forkserver"
# What a step would otherwise do itself. TensorFlow may be imported there, but nothing be computed with it: it would
# then have threads, and steps would hang.
PRELOADED = ("orchestration.preloaded",)


def start() -> None:
    """Start this process's server, which imports meanwhile; without this, it starts with the run's first step.

    Steps see the environment variables of this moment.
    """
    multiprocessing.get_context(METHOD).set_forkserver_preload([*PRELOADED])
    forkserver.ensure_running()
