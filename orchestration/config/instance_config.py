"""dagster.yaml: the settings of the project's Dagster instance."""

from functools import cache

import yaml

from orchestration.config.settings import PROJECT_ROOT

INSTANCE_FILE = PROJECT_ROOT / "dagster.yaml"


@cache
def trainings_at_once() -> int:
    """How many trainings run at the same time: the limit that dagster.yaml sets for pools."""
    return int(yaml.safe_load(INSTANCE_FILE.read_text("utf-8"))["concurrency"]["pools"]["default_limit"])
