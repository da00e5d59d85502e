"""Validate serving.yaml."""

import math
from pathlib import Path

from pydantic import BaseModel, Field, field_validator

from ml.settings_file import read_settings
from orchestration.config.settings import settings


class Arm(BaseModel, frozen=True, extra="forbid"):
    """One model of an experiment."""

    model: str = Field(min_length=1, description="Name of a recipe.")
    share: float = Field(gt=0, le=1, description="Share of the users.")


class Experiment(BaseModel, frozen=True, extra="forbid"):
    """An A/B test: which model answers a user if the request names none."""

    name: str = Field(pattern=r"^[a-z0-9-]+$", description="A new name assigns the users to arms again.")
    arms: tuple[Arm, ...] = Field(min_length=1, description="The models; a single one means no test.")

    @field_validator("arms")
    @classmethod
    def _share_all_users(cls, arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
        if len({arm.model for arm in arms}) != len(arms):
            raise ValueError("expected each model only once")
        if not math.isclose(total := sum(arm.share for arm in arms), 1):
            raise ValueError(f"expected shares that add up to 1, found {total:g}")
        return arms


class Rate(BaseModel, frozen=True, extra="forbid"):
    """How many requests are let in with the keys of one name."""

    per_second: float = Field(default=500, gt=0, le=1_000_000, description="Requests a second, in the long run.")
    burst: int = Field(
        default=1000, ge=1, le=1_000_000, description="Requests at once after a pause; further ones get status 429."
    )


class ServingConfig(BaseModel, frozen=True, extra="forbid"):
    """The settings of serving.yaml."""

    refresh_seconds: float = Field(gt=0, le=60, description="Seconds between polls for a new champion.")
    max_k: int = Field(ge=1, description="Length of the longest list.")
    max_pairs: int = Field(ge=1, description="Largest number of pairs in one request to /score.")
    max_queue: int = Field(ge=1, description="Requests that may wait for live scoring; further ones get status 503.")
    hosts: tuple[str, ...] = Field(
        default=(),
        description="Further names and addresses, without a port, by which clients may call the service; localhost, "
        "127.0.0.1, [::1] and SERVE_HOST are always accepted.",
    )
    rate: Rate | None = Field(
        default=Rate(),
        description="Limit for the keys of each name in SERVE_KEYS_FILE; null for none.",
    )
    open_docs: bool = Field(
        default=False,
        description="Whether /docs and /openapi.json need no API key where everything else does: a browser that opens "
        "a page cannot send one.",
    )
    experiment: Experiment | None = Field(
        default=None,
        description="Which model answers a user if the request names none; default: the published model that best "
        "predicts what a user will watch next.",
    )


def load_serving_config(path: Path | None = None) -> ServingConfig:
    """Read and validate serving.yaml. Raises DataError that names file and field."""
    return read_settings(path or settings().serving_yaml, ServingConfig)
