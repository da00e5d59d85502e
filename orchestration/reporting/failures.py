"""Reasons of failures."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from ml.errors import DataError


@contextmanager
def without_retry() -> Iterator[None]:
    """Raise a DataError as a dagster.Failure that is not retried: the same input fails again."""
    try:
        yield
    except DataError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def reason_of(event: dg.DagsterEvent) -> str:
    """Why a step failed: the asset's own description, else the message of the innermost error."""
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error else "unknown"
