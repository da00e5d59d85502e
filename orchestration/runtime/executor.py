"""How a run's steps are executed: one run at a time, each step in a process of its own."""

import time
from collections.abc import Iterator
from typing import Any

import dagster as dg

from orchestration.config import locks
from orchestration.config.instance_config import trainings_at_once
from orchestration.config.writer import claim_home
from orchestration.runtime import fork_server
from orchestration.runtime.cleanup import clean_up

_POLL_SECONDS = 0.5


class OneRunAtATime(dg.Executor):
    """Waits until no other run is in progress, cleans up after crashed runs, then lets another executor run the steps.

    Dagster's run queue holds back only the runs that its daemon launches, and ``make run`` needs no daemon.
    """

    def __init__(self, steps: dg.Executor) -> None:
        self._steps = steps

    @property
    def retries(self) -> Any:
        """The retry mode of the other executor."""
        return self._steps.retries

    def execute(self, plan_context: Any, execution_plan: Any) -> Iterator[dg.DagsterEvent]:
        """Called by Dagster, which has no public names for the types of the arguments.

        Raises:
            DataError: another checkout writes to the home.
        """
        run_id = plan_context.run_id
        with locks.living(run_id), locks.turn() as turn:
            _wait(turn, plan_context.log)
            claim_home()
            for line in clean_up(plan_context.instance, run_id):
                plan_context.log.info(line)
            yield from self._steps.execute(plan_context, execution_plan)


def _wait(turn: Iterator[None], log: dg.DagsterLogManager) -> None:
    """Wait for this run's turn. Raises DagsterExecutionInterruptedError if the run is terminated meanwhile."""
    for polls, _ in enumerate(turn):
        if not polls:
            log.info("Waiting for another run to end: runs write the same tables")
        with dg.raise_execution_interrupts():
            time.sleep(_POLL_SECONDS)


@dg.executor(name="one_run_at_a_time", requirements=dg.multiple_process_executor_requirements())
def one_run_at_a_time(context: dg.InitExecutorContext) -> OneRunAtATime:
    """One run at a time, in it as many steps at a time as dagster.yaml accepts trainings."""
    start = {fork_server.METHOD: {"preload_modules": [*fork_server.PRELOADED]}}
    config = {"retries": {"enabled": {}}, "max_concurrent": trainings_at_once(), "start_method": start}
    configured: Any = context._replace(executor_def=dg.multiprocess_executor, executor_config=config)
    create: Any = dg.multiprocess_executor.executor_creation_fn
    return OneRunAtATime(create(configured))
