"""Progress of long computations over all users, in the run's log."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from ml.inference.recommend import Progress

StepContext = dg.OpExecutionContext | dg.AssetExecutionContext  # of the steps that rank all users
_SECONDS_BETWEEN_REPORTS = 10


def progress_reporter(context: StepContext, model: str, moments: int = 1) -> "Callable[[Progress], None]":
    """Log the number of users scored, every few seconds and at the end; a user counts once per month."""
    label = model if moments == 1 else f"{model}, {moments} months"
    reported = time.monotonic()

    def report(progress: "Progress") -> None:
        nonlocal reported
        if progress.done == progress.total or time.monotonic() - reported >= _SECONDS_BETWEEN_REPORTS:
            reported = time.monotonic()
            context.log.info(f"{label}: {progress.done:,} of {progress.total:,} users scored")

    return report
