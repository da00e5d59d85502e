"""Resolve locations such as ``mlflow-artifacts:/...``, which are relative, so that a home can be moved or copied.

A tracking server resolves them for its clients. MLflow does not resolve them for a client that uses the database
directly, as runs do. Here they mean a folder beside the database, which ``make ui`` serves to all other clients.
Imported only where MLflow is needed, since MLflow is slow to import.
"""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import (
    get_artifact_repository,
    get_registered_artifact_repositories,
)
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

from orchestration.config.settings import settings
from orchestration.config.tracking_config import ARTIFACTS, SERVED, SQLITE, TrackingConfig, database_file, local_path

_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)


def artifacts_root(tracking_uri: str) -> str:
    """The folder or URL that ``mlflow-artifacts:/`` means.

    Args:
        tracking_uri: of a database. For a SQLite file it is a folder beside the file, for another one a folder in the
            home.
    """
    if tracking_uri.startswith(SQLITE):
        return str(database_file(tracking_uri).resolve().parent / ARTIFACTS)
    return str(settings().home / ARTIFACTS)


def _repository(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> ArtifactRepository:
    """The repository of a location: over HTTP with a tracking server, else the folder itself. MLflow calls this."""
    from mlflow import get_tracking_uri

    uri = tracking_uri or get_tracking_uri()
    if urlsplit(uri).scheme in ("http", "https"):
        return MlflowArtifactsRepository(artifact_uri, tracking_uri, registry_uri)
    path = urlsplit(artifact_uri).path.strip("/")
    if ".." in path.split("/"):
        raise ValueError(f"{artifact_uri}: is outside the artifacts")
    root = artifacts_root(uri)
    location = root.rstrip("/") + (f"/{path}" if path else "")
    return get_artifact_repository(location, tracking_uri, registry_uri)


def register() -> None:
    """Make MLflow's clients in this process use ``_repository``."""
    # MLflow's entry point for this would need a reinstallation of the package.
    get_registered_artifact_repositories()[ARTIFACTS] = _repository


def is_own(location: str, config: TrackingConfig) -> bool:
    """Whether artifacts may be written and deleted there: below the home, or where the configuration says.

    Args:
        location: of an experiment, a run or a logged model.
        config: mlflow.yaml, filled in for their data set.
    """
    configured, path = config.artifact_location, local_path(location)
    if location.startswith(SERVED):
        return True  # below the folder beside the database, or the tracking server's own
    if path is None:
        roots = [configured, str(settings().home)]
        return ".." not in location.split("/") and any(f"{location}/".startswith(f"{root}/") for root in roots)
    folders = [settings().local_home.resolve(), local_path(configured)]
    return any(folder is not None and path.is_relative_to(folder) for folder in folders)


def make_movable(tracking_uri: str, configured: Callable[[str], str]) -> int:
    """Make the locations in a SQLite database those of this home; gives the number of changed experiments.

    Earlier releases stored absolute paths, and a location below the home is one still. When the home is moved or
    copied, these are wrong, or mean the original's files. All locations change in one transaction. Locations that do
    not end like the configured one stay as they are, and so do those whose files exist only there.

    Args:
        tracking_uri: of the database.
        configured: gives a data set's configured location.
    """
    changed = 0
    with closing(sqlite3.connect(database_file(tracking_uri), timeout=60, isolation_level=None)) as database:
        query = """
            SELECT artifact_location, value FROM experiments LEFT JOIN experiment_tags
            ON experiments.experiment_id = experiment_tags.experiment_id AND key = 'dataset'
        """
        locations = {str(location): dataset for location, dataset in database.execute(query) if location}
        targets = {
            location: target
            for location, dataset in locations.items()
            if (target := configured(dataset or location.rsplit("/", 1)[-1])) != location
            and _is_moved(location, target, tracking_uri)
        }
        if not targets:
            return 0
        database.execute("BEGIN IMMEDIATE")
        for location, target in sorted(targets.items()):
            for table, column in _COLUMNS:
                of_location = f"substr({column} || '/', 1, {len(location) + 1}) = ?"
                update = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {of_location}"  # noqa: S608
                rows = database.execute(update, (target, len(location) + 1, f"{location}/")).rowcount
                changed += rows if table == "experiments" else 0
        database.execute("COMMIT")
    return changed


def _is_moved(location: str, target: str, tracking_uri: str) -> bool:
    """Whether a location means the configured one of another home, or of this one before it was moved."""
    written, home = local_path(location), settings().local_home.resolve()
    if target.startswith(SERVED):
        root = Path(artifacts_root(tracking_uri)).resolve()
        home, own = root.parent, root / target.removeprefix(SERVED).strip("/")
    elif (path := local_path(target)) is not None and path.is_relative_to(home):
        own = path
    else:
        return False
    ends_alike = written is not None and f"{written}".endswith(f"/{own.relative_to(home)}")
    return written is not None and ends_alike and (written == own or own.is_dir() or not written.is_dir())
