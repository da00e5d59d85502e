"""YAML files of settings."""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ml.errors import DataError

Settings = TypeVar("Settings", bound=BaseModel)


def read_settings(path: Path, kind: type[Settings], **overrides: Any) -> Settings:
    """The file's settings, validated; ``overrides`` replace its own. Raises DataError that names file and field."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise DataError(f"{path}: cannot be read as YAML ({error})") from error
    if not isinstance(document, dict):
        raise DataError(f"{path}: expected a mapping of settings")
    try:
        return kind(**{**document, **overrides})
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise DataError(f"{path}, {field}: {first['msg']}, found {first['input']!r}") from error
