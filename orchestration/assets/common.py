"""What all assets share."""

from collections.abc import Sequence

import dagster as dg

OWNERS = ["team:recommendations"]
# For what passes by itself: a network that fails, a locked database, a process that ran out of memory.
TRANSIENT = dg.RetryPolicy(max_retries=2, delay=2, backoff=dg.Backoff.EXPONENTIAL)
DOCUMENTS = "document_io_manager"


def inputs_of(models: Sequence[str], *parts: str) -> dict[str, dg.AssetIn]:
    """Each model's version, and its assets of these names."""
    versions = {f"{model}_version": dg.AssetIn(model) for model in models}
    return versions | {f"{model}_{part}": dg.AssetIn(f"{model}_{part}") for model in models for part in parts}
