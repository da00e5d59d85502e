"""Loaded once by the server that steps fork from (``orchestration.runtime.fork_server``): what the steps need."""

import contextlib
import gc
import importlib

from numba.core.registry import cpu_target

from ml.errors import DataError
from orchestration.automation.jobs import PIPELINE
from orchestration.definitions import definitions_of

_WHEN_FIRST_USED = (  # modules that the project or its libraries import only then
    "alembic.command",
    "dagster._core.storage.sqlite_storage",
    "git",
    "implicit.als",
    "matplotlib.backends.backend_agg",
    "ml.evaluation.attention",
    "ml.evaluation.metric_tables",
    "ml.evaluation.plots",
    "ml.inference.held_out",
    "ml.training.fitting",
    "mlflow.pyfunc",
    "mlflow.store.tracking.sqlalchemy_store",
    "numba.np.arrayobj",
    "orchestration.cli.launch",
    "orchestration.tracking.tracked_run",
    "pyarrow.dataset",
    "tabulate",
)

for _name in _WHEN_FIRST_USED:
    importlib.import_module(_name)
with contextlib.suppress(DataError):  # of the configuration; each step loads the definitions too, and reports it
    definitions_of(PIPELINE).resolve_job_def(PIPELINE)
cpu_target.target_context.refresh()  # numba does this at the first call of a compiled function
cpu_target.typing_context.refresh()
gc.freeze()  # else each step's garbage collector would copy the memory that it shares with the server
