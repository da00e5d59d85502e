"""What long computations over all users say in the run's log."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from ml.inference.recommend import Progress

StepContext = dg.OpExecutionContext | dg.AssetExecutionContext  # of whatever ranks all users
_SECONDS_BETWEEN_REPORTS = 10


def progress_reporter(context: StepContext, model: str, moments: int = 1) -> "Callable[[Progress], None]":
    """Log the users scored, every few seconds and at the end; at several moments each user counts as often."""
    label = model if moments == 1 else f"{model}, {moments} months"
    reported = time.monotonic()

    def report(progress: "Progress") -> None:
        nonlocal reported
        if progress.done == progress.total or time.monotonic() - reported >= _SECONDS_BETWEEN_REPORTS:
            reported = time.monotonic()
            context.log.info(f"{label}: {progress.done:,} of {progress.total:,} users scored")

    return report
