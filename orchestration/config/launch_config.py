"""Settings of a launch: what the Launchpad shows and takes."""

from typing import Any, Self

import dagster as dg
from pydantic import ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator


class LaunchConfig(dg.Config):
    """A launch configuration in which an unknown key is an error.

    The Launchpad itself refuses unknown keys, wrong types and, for fields of a Literal type, unknown choices. It knows
    no ranges: a number outside them fails its step at the start, and is not tried again.

    Raises:
        dagster.Failure: a value is out of its range.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _no_retry_mends_it(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            wrong = (f"{'.'.join(map(str, part['loc']))} = {part['input']!r}: {part['msg']}" for part in error.errors())
            raise dg.Failure(f"Launch configuration: {'; '.join(wrong)}", allow_retries=False) from error
