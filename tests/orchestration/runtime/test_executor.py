import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._utils.interrupts import capture_interrupts

from orchestration.config import locks
from orchestration.config.settings import PROJECT_ROOT
from orchestration.runtime import executor, fork_server
from orchestration.runtime.executor import OneRunAtATime
from tests.waiting import until

WAITING = "second: Waiting for another run to end: runs write the same tables"
RUNS = {"first": "8d5f0b3e-1f3a-4c35-9c3b-2f1d8a7e6b54", "second": "f2c1b6a8-0f0e-4c55-8a39-6a0a7a5f7c11"}


class Steps(dg.Executor):
    """Records when steps are executed; the first run's last until the second run waits."""

    def __init__(self, events: list[str]) -> None:
        self._events = events

    @property
    def retries(self) -> Any:
        return "as configured"

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[Any]:
        name = next(name for name, run_id in RUNS.items() if run_id == plan_context.run_id)
        self._events.append(f"{name} begins")
        assert locks.is_living(plan_context.run_id)
        if name == "first":
            until(lambda: WAITING in self._events)
        self._events.append(f"{name} ends")
        yield f"{name} is done"


def context_of(name: str, events: list[str]) -> Any:
    log = SimpleNamespace(info=lambda text: events.append(f"{name}: {text}"))
    return SimpleNamespace(run_id=RUNS[name], instance=dg.DagsterInstance.ephemeral(), log=log)


def test_a_second_run_waits_and_says_so(env: pytest.MonkeyPatch) -> None:
    env.setattr(executor, "_POLL_SECONDS", 0.01)
    events: list[str] = []
    one_at_a_time = OneRunAtATime(Steps(events))
    plan: Any = None

    def run(name: str) -> None:
        assert list(one_at_a_time.execute(context_of(name, events), plan)) == [f"{name} is done"]

    first = threading.Thread(target=run, args=["first"])
    first.start()
    until(lambda: "first begins" in events)
    run("second")
    first.join()
    assert [event for event in events if "begins" in event or "ends" in event] == [
        "first begins",
        "first ends",
        "second begins",
        "second ends",
    ]
    assert events.count(WAITING) == 1
    assert {locks.is_living(run_id) for run_id in RUNS.values()} == {None}
    assert one_at_a_time.retries == "as configured"


def test_a_run_that_waits_can_be_stopped(env: pytest.MonkeyPatch) -> None:
    env.setattr(executor, "_POLL_SECONDS", 0.01)
    events: list[str] = []
    plan: Any = None
    with locks.turn() as turn, capture_interrupts():
        assert list(turn) == []
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(dg.DagsterExecutionInterruptedError):
            list(OneRunAtATime(Steps(events)).execute(context_of("second", events), plan))
    assert "second begins" not in events
    assert locks.is_living(RUNS["second"]) is None


_PRELOAD = """
import importlib, sys, threading
for name in sys.argv[1:]:
    importlib.import_module(name)
import tensorflow
from tensorflow.python.eager import context
assert context.context()._context_handle is None, "TensorFlow has computed something"
assert threading.active_count() == 1, threading.enumerate()
"""


def test_steps_fork_from_a_process_in_which_nothing_has_been_computed() -> None:
    command = [sys.executable, "-c", _PRELOAD, *fork_server.PRELOADED]
    run = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
