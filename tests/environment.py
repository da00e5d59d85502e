"""A MonkeyPatch for environment variables: what was read of them once per process is read again after a change."""

import sys

import pytest

_CACHED = {
    "orchestration.config.settings": "settings",
    "orchestration.config.data_sets": "described",
    "orchestration.config.recipes_in_force": "recipes_in_force",
    "orchestration.config.monitoring_config": "monitoring",
    "orchestration.config.tracking_config": "tracking_config",
}


def forget_settings() -> None:
    """Have the environment, and the YAML files that it names, read again."""
    for module, function in _CACHED.items():
        if module in sys.modules:  # importing Dagster for a test of the library would only cost time
            getattr(sys.modules[module], function).cache_clear()


class Environment(pytest.MonkeyPatch):
    """A MonkeyPatch that forgets the settings with every change of a variable."""

    def setenv(self, name: str, value: str, prepend: str | None = None) -> None:
        super().setenv(name, value, prepend)
        forget_settings()

    def delenv(self, name: str, raising: bool = True) -> None:
        super().delenv(name, raising)
        forget_settings()

    def undo(self) -> None:
        super().undo()
        forget_settings()
