"""Read settings from YAML files."""

import reprlib
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from ml.errors import DataError

Settings = TypeVar("Settings", bound=BaseModel)

_LARGEST = 2**20  # bytes; ours have thousands
_SHOWN = 100  # characters of a value in an error
_TEXT, _MERGE = "tag:yaml.org,2002:str", "tag:yaml.org,2002:merge"
_repr = reprlib.Repr()
_repr.maxlevel, _repr.maxdict, _repr.maxlist, _repr.maxtuple = 4, 10, 10, 10
_repr.maxstring = _repr.maxother = _repr.maxlong = _SHOWN


def read_settings(path: Path, kind: type[Settings], **overrides: Any) -> Settings:
    """Read and validate a settings file.

    Args:
        path: the YAML file, UTF-8.
        kind: class of the settings.
        overrides: values that replace the file's.

    Raises:
        DataError: names file and field or line, the value, and what was expected.
    """
    document = _read_yaml(path)
    if not isinstance(document, dict):
        raise DataError(f"{path}: expected a mapping of settings at the top level")
    try:
        return kind.model_validate({**document, **overrides})
    except ValidationError as error:
        raise DataError(f"{path}, {first_problem(error)}") from error


def first_problem(error: ValidationError, *within: str) -> str:
    """Return field, problem and value of the first error; ``within`` are the names before the field's."""
    first = error.errors()[0]
    field = _cut(".".join(map(str, (*within, *first["loc"]))))
    return f"{field}: {_cut(first['msg'], 5 * _SHOWN)}, found {_cut(_repr.repr(first['input']))}"


def _read_yaml(path: Path) -> Any:
    """Return a YAML file's content. Raises DataError."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if len(data) > _LARGEST:
        raise DataError(f"{path}: {len(data):,} bytes; expected settings of at most {_LARGEST:,}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(f"{path}, line {line}: expected UTF-8, found other bytes; save the file as UTF-8") from error
    try:
        return _Loader(text, path).get_single_data()
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not readable as YAML ({error})") from error
    except RecursionError as error:
        raise DataError(f"{path}: not readable as YAML (nested too deeply)") from error


class _Loader(yaml.SafeLoader):
    """Loads plain values; keys must be text, each once."""

    def __init__(self, text: str, path: Path) -> None:
        super().__init__(text)
        self.name = path.name  # of the file, in YAML's own errors
        self._path = path

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Read a mapping. YAML itself would keep the last of several equal keys."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.tag == _MERGE:
                continue
            if not isinstance(key, yaml.ScalarNode) or key.tag != _TEXT:
                shown = _cut(str(key.value)) if isinstance(key, yaml.ScalarNode) else "a list or mapping"
                raise DataError(f"{self._path}, line {line}: expected text as a key, found {shown}; put it in quotes")
            if first := lines.get(key.value):
                raise DataError(
                    f"{self._path}, line {line}: the key {_cut(key.value)} is in line {first} already; "
                    "remove or rename one of them"
                )
            lines[key.value] = line
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """Make a value of its text."""
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as error:  # such as a month 99, or a number of thousands of digits
            line, shown = node.start_mark.line + 1, _cut(str(node.value))
            raise DataError(f"{self._path}, line {line}: found {shown}, which is no valid value ({error})") from error


def _cut(text: str, length: int = _SHOWN) -> str:
    return text if len(text) <= length else f"{text[:length]}..."
