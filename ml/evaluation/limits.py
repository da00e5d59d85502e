"""Define limits with a default and overrides by name."""

from collections.abc import Collection, Mapping
from typing import ClassVar

from pydantic import BaseModel, Field, NonNegativeFloat, field_validator


class Limits(BaseModel, frozen=True, extra="forbid"):
    """The largest accepted value by name; a name whose override is null has no limit."""

    names: ClassVar[Collection[str] | None] = None  # that overrides may have; None: any

    default: NonNegativeFloat = Field(description="Limit of names without an override.")
    overrides: Mapping[str, NonNegativeFloat | None] = Field(default={}, description="Limits by name; null: no limit.")

    @field_validator("overrides")
    @classmethod
    def _names_are_known(cls, overrides: Mapping[str, float | None]) -> Mapping[str, float | None]:
        if cls.names is not None and (unknown := [name for name in overrides if name not in cls.names]):
            raise ValueError(f"unknown {', '.join(unknown)}; expected some of {', '.join(cls.names)}")
        return overrides

    def of(self, name: str) -> float | None:
        """Return a name's limit; None if it has none."""
        return self.overrides.get(name, self.default)


class FieldLimits(Limits):
    """Limits by feature. Which features there are depends on the data set."""
