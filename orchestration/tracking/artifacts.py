"""Where artifacts lie whose location is ``mlflow-artifacts:/...``: such a location counts from a folder, and so moves.

A tracking server resolves it for its clients. MLflow has no answer for a client that talks to the database itself, as
runs do; here it is a folder beside the database, which ``make ui`` serves to all others. Imported only where MLflow is
needed, since it is slow to import.
"""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.artifact.artifact_repository_registry import (
    _artifact_repository_registry,
    get_artifact_repository,
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
    """The folder or URL that ``mlflow-artifacts:/`` stands for.

    Args:
        tracking_uri: of a database: of a SQLite file the folder beside it, of any other one below the home.
    """
    if tracking_uri.startswith(SQLITE):
        return str(database_file(tracking_uri).resolve().parent / _FOLDER)
    return str(settings().home / _FOLDER)


def _repository(
    artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> ArtifactRepository:
    """As MLflow asks for it: over HTTP where the tracking server is, else where the artifacts are."""
    from mlflow import get_tracking_uri

    uri = tracking_uri or get_tracking_uri()
    if urlsplit(uri).scheme in ("http", "https"):
        return MlflowArtifactsRepository(artifact_uri, tracking_uri, registry_uri)
    path = urlsplit(artifact_uri).path.strip("/")
    if ".." in path.split("/"):
        raise ValueError(f"{artifact_uri}: leads out of the artifacts")
    root = artifacts_root(uri)
    place = root.rstrip("/") + (f"/{path}" if path else "")
    return get_artifact_repository(place, tracking_uri, registry_uri)


def register() -> None:
    """Let MLflow's clients in this process find the artifacts."""
    # The entry point that MLflow has for this would need the package to be installed anew.
    _artifact_repository_registry.register(SERVED.removesuffix(":"), _repository)


def make_movable(tracking_uri: str) -> int:
    """Let the locations in a SQLite database count from the folder beside it; gives the number of experiments changed.

    Databases made before held absolute paths, which lead nowhere, or into the original, when the home is moved or
    copied. All locations change in one transaction, or none. Those that are elsewhere stay.
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
    """What lies above the folder of a data set, of a location as they used to be; None for any other."""
    root = location.rsplit("/", 1)[0]
    is_local = location.startswith(("file:", "/"))
    return root if is_local and root.endswith(f"/{_FOLDER}") else None


def _is_ours(root: str, own: Path) -> bool:
    """Whether the artifacts of these locations lie beside the database, or at least nowhere else."""
    written = Path(unquote(urlsplit(root).path))
    return own.is_dir() or not written.is_dir()
