"""The Dagster instance of this project: where runs, schedules and events are kept."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.instance.ref import InstanceRef  # Dagster has no public name for it

from ml.errors import DataError
from ml.files import write_atomically
from orchestration.config.instance_config import INSTANCE_FILE
from orchestration.config.settings import settings

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
        """Where the storages are. Called by Dagster.

        Args:
            base_dir: DAGSTER_HOME, or the temporary directory of a command without it; the settings know better.
        """
        return InstanceRef.config_defaults(str(_made(settings().instance_home)))


def use_instance() -> Path:
    """Create the instance's home with the project's dagster.yaml, and set DAGSTER_HOME for this process and children.

    Raises:
        DataError: the home has a dagster.yaml that is not the project's.
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
    return home


def _made(home: Path) -> Path:
    home.mkdir(parents=True, exist_ok=True)
    return home
