"""The Dagster instance of this project: where runs, schedules and events are kept."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._core.instance.ref import InstanceRef  # Dagster has no public name for it
from dagster._serdes import ConfigurableClassData  # likewise

from ml.errors import DataError
from ml.files import write_atomically
from orchestration.config.instance_config import INSTANCE_FILE
from orchestration.config.settings import settings

_DATABASE = "DAGSTER_POSTGRES_URL"
_DATABASE_PACKAGE, _DRIVER = "dagster_postgres", "postgresql+psycopg2"
_IN_DATABASE = {
    "storage": "DagsterPostgresStorage",
    "run_storage": "PostgresRunStorage",
    "event_log_storage": "PostgresEventLogStorage",
    "schedule_storage": "PostgresScheduleStorage",
}
# How dagster.yaml begins, today's and those of earlier releases: such a file may be replaced.
_OURS = ("# The project's Dagster instance", "# Settings of the Dagster instance; copied to its home by")


class ProjectInstance(dg.DagsterInstance):
    """An instance that keeps everything in the project's home, with or without DAGSTER_HOME.

    dagster.yaml names this class. A Dagster command in the project's root, such as ``dagster dev``, therefore shows and
    records the same runs as ``make ui`` and ``make run``.
    """

    @staticmethod
    def config_schema() -> Mapping[str, Any]:
        """No settings in dagster.yaml besides Dagster's own. Called by Dagster."""
        return {}

    @staticmethod
    def config_defaults(base_dir: str) -> Mapping[str, Any]:
        """Where the storages are: in files, or in the database of DAGSTER_POSTGRES_URL. Called by Dagster.

        Args:
            base_dir: DAGSTER_HOME, or the temporary directory of a command without it; the settings know better.
        """
        defaults = InstanceRef.config_defaults(str(_made(settings().instance_home)))
        return {**defaults, **_storages_in_database()}


def use_instance() -> Path:
    """Create the instance's home with the project's dagster.yaml, and set DAGSTER_HOME for this process and children.

    Raises:
        DataError: the home has a dagster.yaml that is not the project's, or the database cannot be used.
    """
    home = _made(settings().instance_home)
    path, wanted = home / "dagster.yaml", INSTANCE_FILE.read_bytes()
    found = path.read_bytes() if path.exists() else None
    if found is not None and not found.decode("utf-8", "replace").startswith(_OURS):
        raise DataError(
            f"{path}: not written by this project, and left as it is; set DAGSTER_HOME to another directory "
            "(without it, the project uses one of its own), or remove the file"
        )
    if found != wanted:
        write_atomically(path, wanted)
    os.environ["DAGSTER_HOME"] = str(home)
    if settings().dagster_postgres_url:
        _require_database()
    return home


def _storages_in_database() -> dict[str, ConfigurableClassData]:
    """Dagster's configuration of a PostgreSQL database; empty without one. Raises DataError without its driver.

    It names the environment variable: Dagster passes the configuration to processes on their command lines.
    """
    url = settings().dagster_postgres_url
    if url is None:
        return {}
    if find_spec(_DATABASE_PACKAGE) is None:
        raise DataError(f"{_DATABASE} needs the package dagster-postgres; pip install -e '.[servers]'")
    # It may come from .env, and SQLAlchemy's own choice of a driver depends on its version.
    os.environ[_DATABASE] = f"{_DRIVER}://{url.get_secret_value().split('://', 1)[1]}"
    config = yaml.dump({"postgres_url": {"env": _DATABASE}})
    return {kind: ConfigurableClassData(_DATABASE_PACKAGE, name, config) for kind, name in _IN_DATABASE.items()}


def _require_database() -> None:
    """Create Dagster's tables where there are none. Raises DataError where the database cannot be used."""
    try:
        with dg.DagsterInstance.get():
            pass
    except Exception as error:  # dagster-postgres's own kind has no base class, and hides the driver's
        cause = error.__cause__ or error
        told = " ".join(str(getattr(cause, "orig", cause)).split())
        raise DataError(f"{_DATABASE}: Dagster cannot use the database: {told}") from error


def _made(home: Path) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    return home
