"""How a run's steps are executed: each in a process of its own, and one run at a time."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from orchestration.config import locks
from orchestration.runtime.cleanup import put_in_order

if TYPE_CHECKING:
    from dagster._core.execution.context.system import PlanOrchestrationContext
    from dagster._core.execution.plan.plan import ExecutionPlan
    from dagster._core.execution.retries import RetryMode
    from dagster._core.log_manager import DagsterLogManager

_POLL_SECONDS = 0.5
# Steps fork from a process that has the slow imports done. TensorFlow must not be among them: it hangs after a fork.
_ONE_PROCESS_A_STEP = {
    "retries": {"enabled": {}},
    "max_concurrent": 2,
    "start_method": {"forkserver": {"preload_modules": ["orchestration.definitions", "mlflow"]}},
}


class OneRunAtATime(dg.Executor):
    """Waits until no other run is at work, puts in order what dead ones left, and lets another executor do the rest."""

    def __init__(self, steps: dg.Executor) -> None:
        self._steps = steps

    @property
    def retries(self) -> "RetryMode":
        """Those of the other executor."""
        return self._steps.retries

    def execute(
        self, plan_context: "PlanOrchestrationContext", execution_plan: "ExecutionPlan"
    ) -> Iterator[dg.DagsterEvent]:
        """Called by Dagster."""
        run_id = plan_context.run_id
        with locks.living(run_id), locks.turn() as turn:
            _wait(turn, plan_context.log)
            for line in put_in_order(plan_context.instance, run_id):
                plan_context.log.info(line)
            yield from self._steps.execute(plan_context, execution_plan)


def _wait(turn: Iterator[None], log: "DagsterLogManager") -> None:
    """Until it is this run's turn. Raises DagsterExecutionInterruptedError where somebody stops it before."""
    from dagster._utils.interrupts import pop_captured_interrupt

    for polls, _ in enumerate(turn):
        if not polls:
            log.info("Waiting for another run to end: runs write the same tables")
        if pop_captured_interrupt():
            raise dg.DagsterExecutionInterruptedError
        time.sleep(_POLL_SECONDS)


@dg.executor(name="one_run_at_a_time", requirements=dg.multiple_process_executor_requirements())
def one_run_at_a_time(context: dg.InitExecutorContext) -> OneRunAtATime:
    """One run at a time, two steps at a time, each in a process of its own."""
    configured: Any = context._replace(executor_def=dg.multiprocess_executor, executor_config=_ONE_PROCESS_A_STEP)
    create: Any = dg.multiprocess_executor.executor_creation_fn
    return OneRunAtATime(create(configured))
