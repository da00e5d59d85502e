"""Why a step failed, in words."""

import dagster as dg


def reason_of(event: dg.DagsterEvent) -> str:
    """The innermost error's message, or what the asset said of its failure."""
    data = event.step_failure_data
    if data.user_failure_data and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error else "unknown"
