"""compute.yaml: where the heavy steps compute."""

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, Field

from ml.settings_file import read_settings
from orchestration.config.settings import settings

Place = Literal["local", "ray"]
LOCAL: Place = "local"
COMPUTED_BY = "computed_by"  # metadata of assets, and tag of registered versions: where it was computed


class ComputeConfig(BaseModel, frozen=True, extra="forbid"):
    """The settings of compute.yaml."""

    compute: Place = Field(description="local: on this machine; ray: on a Ray cluster.")
    address: str = Field(
        default="auto",
        min_length=1,
        description="Of the Ray cluster: auto, host:port of its head, or local for one on this machine.",
    )
    workers: int = Field(default=2, ge=1, description="Processes of the cluster that work at the same time.")
    cpus_per_worker: int = Field(default=1, ge=1, description="Processors of each of them.")
    scores_from: int = Field(
        default=1_000_000, ge=0, description="Fewer test rows than this are scored on this machine in any case."
    )
    storage: str | None = Field(
        default=None,
        description="Where checkpoints of trainings are kept: a directory or URL that all machines of the cluster "
        "reach; default: cluster in the home.",
    )


def load_compute_config(path: Path) -> ComputeConfig:
    """Read compute.yaml; COMPUTE overrides its ``compute``. Raises DataError naming file and field."""
    chosen = {"compute": settings().compute} if settings().compute else {}
    return read_settings(path, ComputeConfig, **chosen)


@cache
def compute_config() -> ComputeConfig:
    """The settings of compute.yaml, read once per process. Raises DataError."""
    return load_compute_config(settings().compute_yaml)
