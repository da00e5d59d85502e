"""Settings of a launch: what the Launchpad shows and accepts."""

from collections.abc import Mapping
from copy import copy
from typing import Any, Self

import dagster as dg
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    create_model,
    model_validator,
)

from ml.training.recipes import Recipe, with_values

RETRAIN = "retrain"  # the launch setting of a model that is not part of its recipe


class LaunchConfig(dg.Config):
    """A launch configuration in which an unknown key is an error.

    The Launchpad itself refuses unknown keys, wrong types and, for fields of a Literal type, unknown choices. It does
    not know ranges: a number outside its range fails the step at its start, without a retry.

    Raises:
        dagster.Failure: a value is out of its range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _fails_without_retry(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            wrong = (f"{'.'.join(map(str, part['loc']))} = {part['input']!r}: {part['msg']}" for part in error.errors())
            raise dg.Failure(f"Launch configuration: {'; '.join(wrong)}", allow_retries=False) from error


def settings_type(name: str, of: BaseModel) -> type[LaunchConfig]:
    """A launch configuration with the fields of the class of ``of``, and its values as defaults."""
    fields: dict[str, Any] = {}
    for field, declared in type(of).model_fields.items():
        info = copy(declared)
        info.default, info.default_factory = getattr(of, field), None
        fields[field] = (declared.annotation, info)
    return create_model(name, __base__=LaunchConfig, **fields)


def launch_settings(name: str, recipe: Recipe) -> type[LaunchConfig]:
    """The launch configuration of a model: the recipe's settings of model and training, and ``retrain``."""
    fields: dict[str, Any] = {}
    for part in ("model", "training"):
        kind = settings_type(f"{name}_{part}", getattr(recipe, part))
        about = type(recipe).model_fields[part].description
        fields[part] = (kind, Field(default=kind(), description=f"{about} Defaults: the recipe's."))
    retrain = Field(
        default=False, description="Train from scratch, even where a version of the same fingerprint is registered."
    )
    fields[RETRAIN] = (bool, retrain)
    return create_model(f"{name}_run", __base__=LaunchConfig, **fields)


def with_settings(recipe: Recipe, settings: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """The recipe with a launch's settings of model and training instead of its own."""
    values = {f"{part}.{name}": value for part, own in settings.items() for name, value in own.items()}
    return with_values(recipe, values)
