"""MLflow's client, and the published versions in its registry, as mlflow.yaml sets them up."""

import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from orchestration.publication import Publication
from orchestration.settings import PROJECT_ROOT, Settings
from orchestration.tracking_config import TrackingConfig, load_tracking_config

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SQLITE = "sqlite:///"
_LOCK_TIMEOUT = 120  # seconds for another process to create the database


def configuration(dataset: str) -> TrackingConfig:
    """mlflow.yaml, filled in for a data set. Raises DataError."""
    settings = Settings()
    return load_tracking_config(tracking_uri=settings.mlflow_tracking_uri).fill(settings.home, dataset)


def client_of(config: TrackingConfig) -> "MlflowClient":
    """A client of the tracking server and its registry; a database file that is not there yet is made."""
    from mlflow import MlflowClient  # noqa: PLC0415 - slow to import

    uri = config.tracking_uri
    path = Path(uri.removeprefix(_SQLITE))
    if uri.startswith(_SQLITE) and not path.exists():
        with lock():
            if not path.exists():
                _make_database(path)
    return MlflowClient(uri, uri)


def _make_database(path: Path) -> None:
    """Under another name, then renamed: one whose making was cut off could never be used."""
    from mlflow import MlflowClient  # noqa: PLC0415

    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".mlflow-") as folder:
        made = Path(folder) / path.name
        client = MlflowClient(f"{_SQLITE}{made}", f"{_SQLITE}{made}")
        for empty in client.search_experiments():  # MLflow's own, in which nothing is ever logged here
            client.delete_experiment(empty.experiment_id)
        made.rename(path)


def lock() -> FileLock:
    """Two processes that create something in MLflow's database at once break each other."""
    Settings().local_home.mkdir(parents=True, exist_ok=True)
    return FileLock(Settings().local_home / "mlflow.lock", timeout=_LOCK_TIMEOUT)


def publication(config: TrackingConfig, dataset: str, model: str) -> Publication:
    """The published versions of a data set's model."""
    name, alias = config.registered_models[model], config.aliases.published
    return Publication(Settings().home, dataset, model, name, client_of(config), alias)


def git_tags() -> dict[str, Any]:
    """The commit of the code, where it is a git checkout and git is there."""
    command = ["git", "-C", str(PROJECT_ROOT), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        commit = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return {}
    return {"git_commit": commit}
