"""Read settings from YAML files."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ml.errors import DataError

Settings = TypeVar("Settings", bound=BaseModel)


def read_settings(path: Path, kind: type[Settings], **overrides: Any) -> Settings:
    """Read and validate a settings file.

    Args:
        path: the YAML file.
        kind: class of the settings.
        overrides: values that replace the file's.

    Raises:
        DataError: names file and field, the value, and what was expected.
    """
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise DataError(f"{path}: not readable as YAML ({error})") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: expected a mapping of settings at the top level")
    try:
        return kind(**{**document, **overrides})
    except ValidationError as error:
        raise DataError(f"{path}, {first_problem(error)}") from error


def first_problem(error: ValidationError, *within: str) -> str:
    """Return field, problem and value of the first error; ``within`` are the names before the field's."""
    first = error.errors()[0]
    field = ".".join(map(str, (*within, *first["loc"])))
    return f"{field}: {first['msg']}, found {first['input']!r}"
