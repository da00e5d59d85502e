"""Limits that most names share and some have of their own."""

from collections.abc import Collection, Mapping
from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, field_validator

from ml import schema


class Limits(BaseModel):
    """The largest value that is accepted of each name; for a name whose override is null, every value is."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    names: ClassVar[Collection[str]] = ()

    default: NonNegativeFloat = Field(description="Of every name without an override.")
    overrides: Mapping[str, NonNegativeFloat | None] = Field(default={}, description="By name; null: no limit.")

    @field_validator("overrides")
    @classmethod
    def _names_are_known(cls, overrides: Mapping[str, float | None]) -> Mapping[str, float | None]:
        if unknown := [name for name in overrides if name not in cls.names]:
            raise ValueError(f"unknown {', '.join(unknown)}; expected some of {', '.join(cls.names)}")
        return overrides

    def of(self, name: str) -> float | None:
        """A name's limit; None where it has none."""
        return self.overrides.get(name, self.default)


class FieldLimits(Limits):
    """Limits by field of the models."""

    names = schema.FIELD_NAMES
