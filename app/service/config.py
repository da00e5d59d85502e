"""serving.yaml, validated."""

import math
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from ml.settings_file import read_settings
from orchestration.config.settings import settings


class Arm(BaseModel):
    """One of the models that an experiment compares."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(min_length=1, description="Name of a recipe.")
    share: float = Field(gt=0, le=1, description="Share of the users.")


class Experiment(BaseModel):
    """An A/B test: which model answers a user when a request names none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9-]+$", description="Another name draws the users anew.")
    arms: tuple[Arm, ...] = Field(min_length=1, description="The models; one alone: no test.")

    @field_validator("arms")
    @classmethod
    def _share_all_users(cls, arms: tuple[Arm, ...]) -> tuple[Arm, ...]:
        if len({arm.model for arm in arms}) != len(arms):
            raise ValueError("expected every model once")
        if not math.isclose(total := sum(arm.share for arm in arms), 1):
            raise ValueError(f"expected shares that add up to 1, found {total:g}")
        return arms


class ServingConfig(BaseModel):
    """The settings of serving.yaml."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    refresh_seconds: float = Field(gt=0, le=60, description="How often it is looked for a new champion.")
    max_k: int = Field(ge=1, description="Longest list.")
    max_pairs: int = Field(ge=1, description="Pairs in one request to /score.")
    max_queue: int = Field(ge=1, description="Requests that may wait to be scored live; further ones get status 503.")
    experiment: Experiment | None = Field(
        default=None,
        description="Which model answers a user when the request names none; without it, the published one that is "
        "best for finding what a user will watch next.",
    )


def load_serving_config(path: Path | None = None) -> ServingConfig:
    """Read and validate serving.yaml. Raises DataError naming file and field."""
    return read_settings(path or settings().serving_file, ServingConfig)
