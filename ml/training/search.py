"""Search spaces: which settings of a recipe tuning may change, and to which values."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Discriminator, Field, FiniteFloat, Tag, ValidationError, model_validator

from ml.errors import DataError
from ml.settings_file import first_problem

if TYPE_CHECKING:  # Optuna is slow to import, and recipes are read without it
    from optuna.trial import BaseTrial

PARTS = ("model", "training")
# If these changed, validation losses could not be compared.
_FIXED = {
    "training.seed": "all trials use the recipe's",
    "training.validation_share": "all trials are measured on the same rows",
    "model.l2_embedding": "the validation loss includes the penalty",
    "model.l2_deep": "the validation loss includes the penalty",
}
_TOLERANCE = 1e-8  # in steps
_Number = int | FiniteFloat


class NumberRange(BaseModel, frozen=True, extra="forbid"):
    """Numbers from low to high, both included; integers if low, high and step are integers."""

    low: _Number = Field(description="The lowest.")
    high: _Number = Field(description="The highest.")
    log: bool = Field(default=False, description="Sample as many values between 1 and 10 as between 10 and 100.")
    step: _Number | None = Field(default=None, gt=0, description="Only low, low + step, low + 2 step, ...")

    @model_validator(mode="after")
    def _numbers_go_together(self) -> "NumberRange":
        if self.low >= self.high:
            raise ValueError("expected low below high")
        if self.log and self.low <= 0:
            raise ValueError("log: expected low above 0")
        if self.log and self.step is not None:
            raise ValueError("expected log or step, not both")
        if self.step is not None and not self._on_grid(self.high):
            raise ValueError("step: expected high to be a whole number of steps above low")
        return self

    @property
    def whole(self) -> bool:
        """Whether all numbers are integers."""
        return all(isinstance(number, int) for number in (self.low, self.high, self.step or 1))

    @property
    def extremes(self) -> tuple[_Number, ...]:
        """Values that must be valid for all others to be valid."""
        return self.low, self.high

    def suggest(self, name: str, trial: "BaseTrial") -> int | float:
        """Return the trial's number."""
        if self.whole:
            return trial.suggest_int(name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def parameter(self, value: Any) -> int | float | None:
        """Return a value as the trial's parameter; None for a value outside the range."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return None
        return value if self.low <= value <= self.high and self._on_grid(value) else None

    def _on_grid(self, value: float) -> bool:
        if self.step is None:
            return True
        steps = (value - self.low) / self.step
        return abs(steps - round(steps)) < _TOLERANCE


class Choices(BaseModel, frozen=True, extra="forbid"):
    """One of several values. Parameters are their JSON texts: Optuna confuses 1 with true and has no lists."""

    choices: tuple[Any, ...] = Field(min_length=1, description="The values.")

    @model_validator(mode="after")
    def _none_twice(self) -> "Choices":
        if len(set(self._texts)) != len(self.choices):
            raise ValueError("choices: expected each value once")
        return self

    @property
    def extremes(self) -> tuple[Any, ...]:
        """Values that must be valid for all others to be valid."""
        return self.choices

    def suggest(self, name: str, trial: "BaseTrial") -> Any:
        """Return the trial's value."""
        return self.choices[self._texts.index(trial.suggest_categorical(name, self._texts))]

    def parameter(self, value: Any) -> str | None:
        """Return a value as the trial's parameter; None for a value that is not a choice."""
        text = _text(value)
        return text if text in self._texts else None

    @property
    def _texts(self) -> list[str]:
        return [_text(choice) for choice in self.choices]


def _text(value: Any) -> str:
    return json.dumps(value, default=str)


def _kind(document: Any) -> str:
    is_choices = "choices" in document if isinstance(document, dict) else isinstance(document, Choices)
    return "choices" if is_choices else "range"


SearchRange = Annotated[Annotated[NumberRange, Tag("range")] | Annotated[Choices, Tag("choices")], Discriminator(_kind)]
Space = Mapping[str, NumberRange | Choices]


def checked_space(space: Space, parts: Mapping[str, BaseModel]) -> dict[str, NumberRange | Choices]:
    """Validate a search space; return it with choices in the types of the settings.

    Args:
        space: ranges by dotted settings.
        parts: the recipe's settings by part.

    Raises:
        ValueError: a setting does not exist or cannot be searched, or a value is not valid for it.
    """
    checked: dict[str, NumberRange | Choices] = {}
    for name, values in space.items():
        part, _, setting = name.partition(".")
        known = [f"{part}.{setting}" for part in PARTS for setting in type(parts[part]).model_fields]
        if name not in known:
            raise ValueError(f"{name}: unknown; expected one of {', '.join(key for key in known if key not in _FIXED)}")
        if name in _FIXED:
            raise ValueError(f"{name}: cannot be searched: {_FIXED[name]}")
        extremes = [getattr(changed(parts[part], part, {setting: value}), setting) for value in values.extremes]
        if isinstance(values, Choices):
            checked[name] = Choices(choices=tuple(extremes))
            continue
        own = getattr(parts[part], setting)
        if isinstance(own, bool) or not isinstance(own, int | float):
            raise ValueError(f"{name}: is {own!r}, not a number; expected choices")
        if isinstance(own, int) and not values.whole:
            raise ValueError(f"{name}: is an integer; expected integers for low, high and step")
        checked[name] = values
    return checked


def suggest(space: Space, trial: "BaseTrial") -> dict[str, Any]:
    """Return the trial's value of every setting in the space."""
    return {name: values.suggest(name, trial) for name, values in space.items()}


def changed(settings: BaseModel, part: str, changes: Mapping[str, Any]) -> BaseModel:
    """Return the settings with some values changed. Raises DataError for a value that is not valid."""
    try:
        return type(settings)(**{**settings.model_dump(), **changes})
    except ValidationError as error:
        raise DataError(first_problem(error, part)) from error
