"""Recipes: what a model is made of, as data, from one validated file."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, field_validator, model_validator

from ml import schema
from ml.features.signals import SignalsConfig
from ml.models.config import ARCHITECTURES, AutoIntConfig
from ml.settings_file import read_settings
from ml.training.config import TrainingConfig

_NAME = r"^[a-z][a-z0-9_]*$"


class Recipe(BaseModel):
    """Everything that decides what a model learns from a data set. Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str = Field(min_length=1, description="One sentence for the asset graph.")
    enabled: bool = Field(default=True, description="Whether it is trained, evaluated and published.")
    architecture: str = Field(description=f"One of {', '.join(ARCHITECTURES)}.")
    fields: tuple[str, ...] = Field(default=schema.FIELD_NAMES, description="Fields that are embedded.")
    signals: SignalsConfig | None = Field(default=None, description="Numbers learned from the ratings; none if empty.")
    model: SerializeAsAny[AutoIntConfig] = Field(description="The architecture's settings.")
    training: TrainingConfig = Field(default=TrainingConfig(), description="How it is fitted.")

    @field_validator("fields")
    @classmethod
    def _fields_are_known(cls, fields: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in fields if name not in schema.FIELD_NAMES]:
            raise ValueError(f"unknown {', '.join(unknown)}; expected some of {', '.join(schema.FIELD_NAMES)}")
        if not fields or len(set(fields)) != len(fields):
            raise ValueError("expected at least one field and none twice")
        return fields

    @model_validator(mode="before")
    @classmethod
    def _settings_are_the_architectures(cls, document: Any) -> Any:
        if not isinstance(document, dict):
            return document
        architecture, settings = document.get("architecture", ""), document.get("model") or {}
        if architecture not in ARCHITECTURES:
            raise ValueError(f"unknown architecture {architecture!r}; expected one of {', '.join(ARCHITECTURES)}")
        if isinstance(settings, dict):
            settings = ARCHITECTURES[architecture](**settings)
        return {**document, "model": settings}

    @property
    def positions(self) -> Sequence[int] | None:
        """Where the embedded fields stand among all; None for all of them in their order."""
        return None if self.fields == schema.FIELD_NAMES else [schema.FIELD_NAMES.index(name) for name in self.fields]


class RecipeBook(BaseModel):
    """The file's content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    recipes: dict[str, Recipe] = Field(min_length=1)

    @field_validator("recipes")
    @classmethod
    def _some_are_enabled(cls, recipes: dict[str, Recipe]) -> dict[str, Recipe]:
        for name in recipes:
            if not re.match(_NAME, name):
                raise ValueError(f"recipe name {name!r}; expected small letters, digits and underscores")
        if not any(recipe.enabled for recipe in recipes.values()):
            raise ValueError("at least one recipe must be enabled")
        return recipes


def load_recipes(path: Path) -> dict[str, Recipe]:
    """The enabled recipes by name, in the file's order. Raises DataError that names the file and the field."""
    book = read_settings(path, RecipeBook)
    return {name: recipe for name, recipe in book.recipes.items() if recipe.enabled}
