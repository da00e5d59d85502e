"""The Dagster instance of this project: where runs, schedules and events are kept."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._cli.utils import TMP_DAGSTER_HOME_PREFIX
from dagster._core.instance.ref import InstanceRef  # Dagster has no public name for either

from ml.errors import DataError
from ml.files import write_atomically
from orchestration.config.settings import PROJECT_ROOT, Settings

TEMPLATE = PROJECT_ROOT / "dagster.yaml"
# First lines of files that were written here, today's and earlier ones.
_OURS = ("# The project's Dagster instance", "# Settings of the Dagster instance; copied to its home by")


class ProjectInstance(dg.DagsterInstance):
    """An instance that keeps everything in the project's home, also for a command that is not told where that is.

    dagster.yaml names it. So a Dagster command in the project's root, without DAGSTER_HOME, shows and records the same
    as ``make ui`` and ``make run``.
    """

    @staticmethod
    def config_schema() -> Mapping[str, Any]:
        """Settings of dagster.yaml beside Dagster's own: none. Called by Dagster."""
        return {}

    @staticmethod
    def config_defaults(base_dir: str) -> Mapping[str, Any]:
        """Where the storages are, in place of the temporary directory of a command without DAGSTER_HOME.

        Called by Dagster.
        """
        if not Path(base_dir).name.startswith(TMP_DAGSTER_HOME_PREFIX):
            return InstanceRef.config_defaults(base_dir)
        home = Settings().instance_home
        home.mkdir(parents=True, exist_ok=True)
        return InstanceRef.config_defaults(str(home))


def use_instance() -> Path:
    """Make the instance's home with the project's settings, and point this process and its children to it.

    Raises:
        DataError: the home has a dagster.yaml that is not the project's.
    """
    home = Settings().instance_home
    home.mkdir(parents=True, exist_ok=True)
    settings, wanted = home / "dagster.yaml", TEMPLATE.read_bytes()
    found = settings.read_bytes() if settings.exists() else None
    if found is not None and not found.decode("utf-8", "replace").startswith(_OURS):
        raise DataError(
            f"{settings}: not written by this project, and left as it is; set DAGSTER_HOME to another directory "
            "(without it, the project uses one of its own), or remove the file"
        )
    if found != wanted:
        write_atomically(settings, wanted)
    os.environ["DAGSTER_HOME"] = str(home)
    return home
