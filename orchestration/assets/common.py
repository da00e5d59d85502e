"""What all assets share."""

import dagster as dg

OWNERS = ["team:recommendations"]
# For what passes by itself: a network that fails, a locked database, a process that ran out of memory.
TRANSIENT = dg.RetryPolicy(max_retries=2, delay=2, backoff=dg.Backoff.EXPONENTIAL)
MODELS = ("autoint", "autoint_mlp")
DOCUMENTS = "document_io_manager"
