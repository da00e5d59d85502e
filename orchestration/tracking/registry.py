"""MLflow's client and database, and addresses of its UI, as mlflow.yaml configures them."""

import itertools
import logging
import os
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from ml.errors import DataError
from orchestration.config.settings import PROJECT_ROOT, settings
from orchestration.config.tracking_config import SQLITE, TrackingConfig, database_file, is_server, tracking_config
from orchestration.tracking.access import admitted, use_credentials
from orchestration.tracking.publication import Publication

if TYPE_CHECKING:
    from mlflow import MlflowClient

LOCK_SECONDS = 120  # how long to wait for another process that creates or locks the database
_POLL_SECONDS = 1
# MLflow's variables that say how to reach a server or a store are kept. All others decide where or how runs are
# recorded, which mlflow.yaml does.
_OURS = ("MLFLOW_YAML", "MLFLOW_PORT")
_KEPT = (
    "MLFLOW_TRACKING_",
    "MLFLOW_HTTP_",
    "MLFLOW_S3_",
    "MLFLOW_GCS_",
    "MLFLOW_BOTO_",
    "MLFLOW_KERBEROS_",
    "MLFLOW_MYSQL_",
    "MLFLOW_SQLALCHEMYSTORE_",
    "MLFLOW_ARTIFACT_UPLOAD_",
    "MLFLOW_DOWNLOAD_",
    "MLFLOW_MULTIPART_",
    "MLFLOW_SYSTEM_METRICS_SAMPL",
    "MLFLOW_LOGGING_",
    "MLFLOW_DISABLE_TELEMETRY",
    "MLFLOW_SERVER_ALLOWED_HOSTS",
    "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS",
)
_NOT_KEPT = ("MLFLOW_TRACKING_DIR",)
_LOG = logging.getLogger(__name__)


def ignore_environment() -> None:
    """Remove MLflow's own variables from the environment of this process and its children, except for connections.

    A variable that is set for another project, such as MLFLOW_RUN_ID or MLFLOW_REGISTRY_URI, would send runs and
    versions elsewhere, or make every training fail.
    """
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "_MLFLOW_ACTIVE_"))]:
        if name in _NOT_KEPT or not (name in _OURS or name.startswith(_KEPT)):
            del os.environ[name]
            _LOG.info("%s is ignored: mlflow.yaml decides where runs are recorded", name)


ignore_environment()  # before MLflow is imported, which reads some of them


def configuration(dataset: str) -> TrackingConfig:
    """mlflow.yaml with its placeholders filled in for a data set. Raises DataError."""
    return tracking_config().fill(settings().home, dataset)


def client_of(config: TrackingConfig) -> "MlflowClient":
    """Make a client of the tracking server and its registry. A missing database file is created.

    Raises:
        DataError: the database stays locked, or has the schema of another MLflow version; or a server does not let
            this user in.
        MlflowException: a server cannot be reached.
    """
    from mlflow import MlflowClient

    from orchestration.tracking import artifacts

    ignore_environment()
    use_credentials()
    artifacts.register()
    uri = config.tracking_uri
    if uri.startswith(SQLITE):
        _prepare(uri, str(settings().home), tracking_config().artifact_location)
    elif is_server(uri):
        _require_access(uri)
    return MlflowClient(uri, uri)


@cache
def _require_access(uri: str) -> None:
    """Ask a server for anything, once per process. Raises DataError and MlflowException as ``client_of``."""
    from mlflow import MlflowClient

    with admitted():
        MlflowClient(uri, uri).search_experiments(max_results=1)


@cache
def _prepare(uri: str, home: str, location: str) -> None:
    """Create or open a SQLite database, and make its locations those of the home; once per process and arguments."""
    from orchestration.tracking import artifacts

    path = database_file(uri)
    if not path.exists():
        with lock():
            if not path.exists():
                _make_database(path)
    _open(uri)
    with lock():
        changed = artifacts.make_movable(uri, lambda dataset: configuration(dataset).artifact_location)
    if changed:
        _LOG.info("%s: %d experiments now keep their artifacts in %s, under %s", path, changed, home, location)


def _open(uri: str) -> None:
    """Wait until a SQLite database can be read. Raises DataError."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError

    deadline = time.monotonic() + LOCK_SECONDS
    for attempt in itertools.count():
        try:
            MlflowClient(uri, uri)
            return
        except MlflowException as error:
            raise _about_schema(uri, error) from error
        except OperationalError as error:
            if "locked" not in str(error):
                raise DataError(f"{uri}: cannot be opened ({error.orig})") from error
            if time.monotonic() > deadline:
                told = f"another process has kept it locked for {LOCK_SECONDS} s; end that process and try again"
                raise DataError(f"{uri}: {told}") from error
        if attempt == 0:
            _LOG.warning("%s is locked by another process; waiting up to %d s", uri, LOCK_SECONDS)
        time.sleep(_POLL_SECONDS)


def _about_schema(uri: str, error: Exception) -> Exception:
    """Say what to do about another MLflow version's schema; gives any other error unchanged."""
    from mlflow.version import VERSION

    if "database schema" not in str(error):
        return error
    return DataError(
        f"{uri}: expected the database schema of MLflow {VERSION}, which is installed, found that of another version. "
        f"Stop everything that uses the database, back it up, and run: .venv/bin/mlflow db upgrade '{uri}'"
    )


def _make_database(path: Path) -> None:
    """Create a database under a temporary name, then rename it: an incomplete one could never be used."""
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".mlflow-") as folder:
        made = Path(folder) / path.name
        client = MlflowClient(f"{SQLITE}{made}", f"{SQLITE}{made}")
        for empty in client.search_experiments():  # MLflow's default experiment, which is not used here
            client.delete_experiment(empty.experiment_id)
        made.rename(path)


def lock() -> FileLock:
    """A lock for creating things in MLflow's database: two processes that do it at the same time fail."""
    settings().local_home.mkdir(parents=True, exist_ok=True)
    return FileLock(settings().local_home / "mlflow.lock", timeout=LOCK_SECONDS)


def publication(config: TrackingConfig, dataset: str, model: str) -> Publication:
    """The published versions of a model of a data set."""
    name, alias = config.registered_models[model], config.aliases.published
    return Publication(settings().home, dataset, model, name, client_of(config), alias)


def runs_page(dataset: str | None = None) -> str:
    """Address of the page of the MLflow UI that lists runs.

    Args:
        dataset: whose runs; default: those of the experiment that changed last.

    Raises:
        DataError: the database cannot be used.
    """
    config = configuration(dataset or "any")
    client = client_of(config)
    found = [client.get_experiment_by_name(config.experiment)] if dataset else client.search_experiments(max_results=1)
    shown = [str(experiment.experiment_id) for experiment in found if experiment]
    return mlflow_page(config, f"experiments/{shown[0]}/runs" if shown else "experiments")


def mlflow_page(config: TrackingConfig, page: str) -> str:
    """Address of a page of the MLflow UI."""
    uri = config.tracking_uri
    base = uri.rstrip("/") if is_server(uri) else f"http://127.0.0.1:{settings().mlflow_port}"
    # Without this the UI opens its pages for language models.
    return f"{base}/#/{page}{'&' if '?' in page else '?'}workflowType=machine_learning"


def server_command(*address: str) -> list[str]:
    """The command that starts a tracking server for the home, which also serves the artifacts. Raises DataError.

    Args:
        address: options for the address that it listens on.
    """
    from orchestration.tracking.artifacts import artifacts_root

    config = configuration("any")  # the server shows all data sets
    client_of(config)  # raises for an unusable database, and repairs the locations of a moved one
    uri = config.tracking_uri
    store = ["--backend-store-uri", uri, "--serve-artifacts", "--artifacts-destination", artifacts_root(uri)]
    return [sys.executable, "-m", "mlflow", "server", *store, "--workers", "1", *address]


def git_tags() -> dict[str, Any]:
    """The tag with the commit of the code; none outside a git checkout or without git."""
    command = ["git", "-C", str(PROJECT_ROOT), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"git_commit": commit}
