"""The Dagster instance of this project: where runs, schedules and events are kept."""

import os
from pathlib import Path

from orchestration.settings import Settings

_TEMPLATE = Path(__file__).with_name("dagster.yaml")


def use_instance() -> Path:
    """Make the instance's home with the project's settings, and point this process and its children to it."""
    home = Settings().instance_home
    home.mkdir(parents=True, exist_ok=True)
    settings = home / "dagster.yaml"
    if not settings.exists() or settings.read_bytes() != _TEMPLATE.read_bytes():
        temporary = home / f".dagster.yaml.{os.getpid()}"
        temporary.write_bytes(_TEMPLATE.read_bytes())
        temporary.replace(settings)
    os.environ["DAGSTER_HOME"] = str(home)
    return home
