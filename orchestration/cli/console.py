"""A run's events as lines on the console."""

import logging
import time
from typing import TextIO

import dagster as dg

from orchestration.reporting.failures import reason_of

START_TAG = "started_by"  # its value identifies the run for the process that started it


class Console:
    """Prints the new events of the run with a certain tag.

    Args:
        instance: holds the run's events.
        tag: name of the tag.
        value: its value.
        out: where to print.
    """

    def __init__(self, instance: dg.DagsterInstance, tag: str, value: str, out: TextIO) -> None:
        self._instance, self._filter, self._out = instance, dg.RunsFilter(tags={tag: value}), out
        self._run_id: str | None = None
        self._cursor: str | None = None
        self._steps = 0
        self._begun: dict[str, float] = {}
        self._done = 0

    @property
    def found_run(self) -> bool:
        """Whether the run has started."""
        return self._run_id is not None

    def show_news(self) -> None:
        """Print the events since the last call."""
        run_id = self._run_id or self._find_run()
        more = run_id is not None
        while more and run_id:
            page = self._instance.get_records_for_run(run_id, cursor=self._cursor)
            for record in page.records:
                self._show(record.event_log_entry)
            self._cursor, more = page.cursor, page.has_more

    def _find_run(self) -> str | None:
        runs = self._instance.get_runs(self._filter, limit=1)
        # Until a run starts it has no database of its own, and two processes that create one at once break it.
        if not runs or runs[0].status is dg.DagsterRunStatus.NOT_STARTED:
            return None
        self._run_id = runs[0].run_id
        self._begin = time.time()
        snapshot = self._instance.get_execution_plan_snapshot(runs[0].execution_plan_snapshot_id or "")
        self._steps = len(snapshot.step_keys_to_execute)
        self._print(f"Dagster run {self._run_id}: {self._steps} steps")
        return self._run_id

    def _show(self, entry: dg.EventLogEntry) -> None:
        if entry.dagster_event:
            self._show_event(entry.dagster_event, entry.step_key or "", entry.timestamp)
        elif int(entry.level) >= logging.INFO:
            self._print(f"         {entry.user_message}")

    def _show_event(self, event: dg.DagsterEvent, step: str, timestamp: float) -> None:
        match event.event_type:
            case dg.DagsterEventType.STEP_START:
                self._begun[step] = timestamp
                self._print(f"  start  {step}")
            case dg.DagsterEventType.STEP_SUCCESS:
                self._done += 1
                seconds = timestamp - self._begun[step]
                self._print(f"  done   {step} in {seconds:.1f} s ({self._done} of {self._steps})")
            case dg.DagsterEventType.STEP_UP_FOR_RETRY:
                error = event.step_retry_data.error
                self._print(f"  retry  {step}: {error.message.strip() if error else 'failed'}")
            case dg.DagsterEventType.STEP_FAILURE:
                self._print(f"  FAILED {step}: {reason_of(event)}")
            case dg.DagsterEventType.ASSET_CHECK_EVALUATION if step:  # else an earlier result is replaced
                check = event.asset_check_evaluation_data
                if not check.passed:
                    name = f"{check.check_name} of {check.asset_key.to_user_string()}"
                    why = f": {check.description}" if check.description else ""
                    self._print(f"  {'CHECK ' if check.blocking else 'WARNING'} {name} did not pass{why}")

    def _print(self, text: str) -> None:
        elapsed = int(time.time() - self._begin)
        self._out.write(f"{elapsed // 60:3d}:{elapsed % 60:02d} {text}\n")
        self._out.flush()
