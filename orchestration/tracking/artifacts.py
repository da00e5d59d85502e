"""Resolve locations such as ``mlflow-artifacts:/...``, which are relative, so that a home can be moved or copied.

A tracking server resolves them for its clients. MLflow does not resolve them for a client that uses the database
directly, as runs do. Here they mean a folder beside the database, which ``make ui`` serves to all other clients.
Imported only where MLflow is needed, since MLflow is slow to import.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import (
    get_artifact_repository,
    get_registered_artifact_repositories,
)
from mlflow.store.artifact.mlflow_artifacts_repo import MlflowArtifactsRepository

from orchestration.config.settings import settings
from orchestration.config.tracking_config import SERVED, SQLITE, database_file

_FOLDER = "mlflow-artifacts"
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
        return str(database_file(tracking_uri).resolve().parent / _FOLDER)
    return str(settings().home / _FOLDER)


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
    get_registered_artifact_repositories()[SERVED.removesuffix(":")] = _repository


def make_movable(tracking_uri: str) -> int:
    """Make the locations in a SQLite database relative; gives the number of changed experiments.

    Earlier releases stored absolute paths. When the home is moved or copied, these are wrong, or mean the original's
    files. All locations change in one transaction. Locations outside the home stay as they are.
    """
    own = Path(artifacts_root(tracking_uri))
    changed = 0
    with closing(sqlite3.connect(database_file(tracking_uri), timeout=60, isolation_level=None)) as database:
        locations = [row[0] for row in database.execute("SELECT artifact_location FROM experiments")]
        roots = {root for root in map(_absolute_root, locations) if root and _is_ours(root, own)}
        if not roots:
            return 0
        database.execute("BEGIN IMMEDIATE")
        for root in sorted(roots):
            for table, column in _COLUMNS:
                of_root = f"substr({column}, 1, {len(root) + 1})"
                update = f"UPDATE {table} SET {column} = ? || substr({column}, ?) WHERE {of_root} = ?"  # noqa: S608
                rows = database.execute(update, (SERVED, len(root) + 1, f"{root}/")).rowcount
                changed += rows if table == "experiments" else 0
        database.execute("COMMIT")
    return changed


def _absolute_root(location: str) -> str | None:
    """The parent of the data set's folder in a location of an earlier release; None for any other location."""
    root = location.rsplit("/", 1)[0]
    is_local = location.startswith(("file:", "/"))
    return root if is_local and root.endswith(f"/{_FOLDER}") else None


def _is_ours(root: str, own: Path) -> bool:
    """Whether the artifacts of these locations are beside the database, or at least do not exist elsewhere."""
    written = Path(unquote(urlsplit(root).path))
    return own.is_dir() or not written.is_dir()
