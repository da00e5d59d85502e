"""docs/configuration.md, written from what validates the settings (``make docs``).

A test compares the file with what this would write.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from app.service.config import ServingConfig
from ml.models.config import AutoIntConfig, AutoIntMLPConfig
from ml.training.recipes import Recipe
from orchestration.config.monitoring_config import MonitoringConfig
from orchestration.config.settings import PROJECT_ROOT, Settings
from orchestration.config.tracking_config import TrackingConfig
from orchestration.definitions import build_definitions

PATH = PROJECT_ROOT / "docs" / "configuration.md"
_HEAD = """# Configuration

Written by `make docs` from what validates the settings; do not edit it. A wrong or unknown setting is refused with the
file's name, the setting's and what was expected.
"""
_FILES: Mapping[str, tuple[type[BaseModel], str]] = {
    "recipes.yaml: what is trained": (Recipe, "recipes.<recipe>."),
    "mlflow.yaml: tracking, promotion and retention": (TrackingConfig, ""),
    "monitoring.yaml: what runs warn of": (MonitoringConfig, ""),
    "serving.yaml: the REST service": (ServingConfig, ""),
}
_BOUNDS = {"gt": "above {}", "ge": "at least {}", "lt": "below {}", "le": "at most {}"}
_CHOICE = re.compile(r"^\^\(([\w|]+)\)\$$")
_Row = tuple[str, str, str, str]  # setting, values, default, meaning


def document() -> str:
    """The whole page."""
    environment = [(name.upper(), *_described(field)) for name, field in Settings.model_fields.items()]
    parts = [
        _HEAD,
        "## Environment\n\nEnvironment variables, or lines of a file `.env` in the project's root.\n",
        _table(environment),
    ]
    for title, (kind, prefix) in _FILES.items():
        parts += [f"\n## {title}\n", _table(list(_settings(kind, prefix)))]
    text = "What a single run can set, in Dagster's Launchpad or with `--config`; else what the files say holds."
    return "\n".join([*parts, f"\n## At launch\n\n{text}\n", _table(list(_launchpad())), ""])


def _settings(kind: type[BaseModel], prefix: str) -> Iterator[_Row]:
    """The settings of a class, those of classes inside it by their dotted names."""
    for name, field in kind.model_fields.items():
        path = f"{prefix}{name}"
        inner, step = _inner(field.annotation)
        # An architecture's settings are those of the one that has them all.
        inner = [AutoIntMLPConfig] if inner == [AutoIntConfig] else inner
        yield path, *_described(field, inner)
        for each in inner:
            yield from _settings(each, f"{path}{step}.")


def _inner(annotation: Any) -> tuple[list[type[BaseModel]], str]:
    """The classes of settings in a type, and how their place is written after the setting's name."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation], ""
    found, step = [], ""
    for part in get_args(annotation):
        classes, inner_step = _inner(part)
        found += classes
        step = inner_step or step
    return found, {dict: ".<name>", Mapping: ".<name>", list: "[]", tuple: "[]"}.get(
        get_origin(annotation) or NoneType, ""
    ) + step


def _described(field: FieldInfo, inner: Sequence[type[BaseModel]] = ()) -> tuple[str, str, str]:
    """Values, default and meaning of a setting."""
    bounds = [
        text.format(getattr(rule, bound))
        for rule in field.metadata
        for bound, text in _BOUNDS.items()
        if getattr(rule, bound, None) is not None
    ]
    pattern = next((rule.pattern for rule in field.metadata if getattr(rule, "pattern", None)), None)
    values = ", ".join([_kind(field.annotation) if pattern is None else _form(pattern), *bounds])
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        shown = "required"
    elif inner and default is not None:
        shown = "as below"
    else:
        shown = _shown(default)
    return values, shown, field.description or " ".join((each.__doc__ or "").split("\n")[0] for each in inner)


def _form(pattern: str) -> str:
    """What a regular expression asks for."""
    if choice := _CHOICE.match(pattern):
        return " or ".join(f"`{value}`" for value in choice[1].split("|"))
    return f"text, of the form `{pattern}`"


def _shown(default: Any) -> str:
    """A default as a YAML file would have it."""
    if default is None:
        return "none"
    return f"`{default if isinstance(default, str | Path) else json.dumps(default)}`"


def _kind(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{value}`" for value in get_args(annotation))
    parts = [part for part in get_args(annotation) if part is not NoneType]
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(_kind(part) for part in parts)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "settings"
    names = {str: "text", int: "number", float: "number", bool: "`true` or `false`"}
    if get_origin(annotation) in (dict, Mapping):
        return "by name"
    if get_origin(annotation) in (list, tuple):
        return "list"
    return names.get(annotation, "path" if "Path" in str(annotation) else "text")


def _launchpad() -> Iterator[_Row]:
    repository = build_definitions(with_paper=True).get_repository_def()
    jobs = repository.get_all_jobs()
    nodes = {node.name: node for job in jobs for node in job.all_node_defs if node.name != job.name}
    yield from _shape("resources.raw_data.config", repository.get_top_level_resources()["raw_data"].config_schema)
    for name, node in sorted(nodes.items()):
        yield from _shape(f"ops.{name}.config", node.config_schema)


def _shape(place: str, schema: Any) -> Iterator[_Row]:
    for name, field in getattr(schema.config_type, "fields", {}).items():
        default = _shown(field.default_value if field.default_provided else None)
        if getattr(field.config_type, "fields", None):  # of a model's asset
            yield f"{place}.{name}", "settings", "the recipe's", f"As `recipes.<recipe>.{name}` above."
        else:
            yield f"{place}.{name}", _scalar(field.config_type), default, field.description or ""


def _scalar(config_type: Any) -> str:
    key = str(getattr(config_type, "inner_type", config_type).key)
    kinds = {"Int": "number", "Float": "number", "Bool": "`true` or `false`", "Array": "list", "Map": "by name"}
    return next((text for start, text in kinds.items() if key.startswith(start)), "text")


def _table(rows: list[_Row]) -> str:
    lines = ["| setting | values | default | meaning |", "|-|-|-|-|"]
    for setting, *others in rows:
        cells = [f"`{setting}`", *(text.replace("|", "\\|").replace("\n", " ") for text in others)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    PATH.write_text(document(), encoding="utf-8")
    sys.stdout.write(f"{PATH} written\n")
