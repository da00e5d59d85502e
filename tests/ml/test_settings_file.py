from pathlib import Path

import pytest
from pydantic import BaseModel, Field

from ml.errors import DataError
from ml.settings_file import read_settings
from ml.training.recipes import load_recipes


class Inner(BaseModel, frozen=True, extra="forbid"):
    size: int = Field(default=1, ge=1)
    name: str = "a"


class Outer(BaseModel, frozen=True, extra="forbid"):
    parts: dict[str, Inner] = {}
    count: int = 0


def read(tmp_path: Path, data: bytes | str) -> Outer:
    path = tmp_path / "settings.yaml"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return read_settings(path, Outer)


def test_values_anchors_and_overrides(tmp_path: Path) -> None:
    text = '\ufeffparts:\n  a: &a {size: 2, name: "1"}\n  b: {<<: *a, size: 3}\ncount: 1\n'
    found = read(tmp_path, text)
    assert found == Outer(parts={"a": Inner(size=2, name="1"), "b": Inner(size=3, name="1")}, count=1)
    assert read_settings(tmp_path / "settings.yaml", Outer, count=7).count == 7


BAD: dict[str, tuple[bytes | str, str]] = {
    "Latin-1": (b"count: 1\nparts: {a: {name: \xe9}}\n", ", line 2: expected UTF-8"),
    "UTF-16": ("count: 1\n".encode("utf-16"), ", line 1: expected UTF-8"),
    "UTF-16 without a mark": ("count: 1\n".encode("utf-16-le"), ": not readable as YAML"),
    "a NUL": ("count: \x00\n", ": not readable as YAML"),
    "a number as a key": ("count: 1\n1: 2\n", ", line 2: expected text as a key, found 1; put it in quotes"),
    "a nested number as a key": ("parts:\n  a:\n    1: 2\n", ", line 3: expected text as a key, found 1"),
    "a word that means true as a key": ("parts:\n  on: {}\n", ", line 2: expected text as a key, found on"),
    "a list as a key": ("parts: {? [a] : {}}\n", ", line 1: expected text as a key, found a list or mapping"),
    "a date that does not exist": ("count: 2001-99-99\n", ", line 1: found 2001-99-99, which is no valid value"),
    "thousands of digits": (f"parts:\n  a: {{size: {'9' * 5000}}}", f", line 2: found {'9' * 100}..., which is no"),
    "deep nesting": ("parts: " + "[" * 3000, ": not readable as YAML (nested too deeply)"),
    "a key twice": ("parts:\n  a: {}\n  b: {}\n  a: {size: 2}\n", ", line 4: the key a is in line 2 already"),
    "a setting twice": ("count: 1\ncount: 1\n", ", line 2: the key count is in line 1 already"),
    "a huge file": ("count: 1" + " " * 2**20, ": 1,048,584 bytes; expected settings of at most 1,048,576"),
    "a long value": (
        f"count: {'x' * 10_000}",
        f"count: Input should be a valid integer, unable to parse string as an integer, found '{'x' * 30}",
    ),
    "a wrong value": ("parts: {a: {size: 0}}", ", parts.a.size: Input should be greater than or equal to 1, found 0"),
    "aliases that grow": (
        "a: &a [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefghi", "bcdefghij", strict=True)),
        ", a: Extra inputs are not permitted, found ['x', 'x'",
    ),
    "no mapping": ("[1]", ": expected a mapping of settings at the top level"),
}


@pytest.mark.parametrize(("data", "told"), BAD.values(), ids=BAD.keys())
def test_a_file_that_cannot_be_used_is_named_with_the_place(tmp_path: Path, data: bytes | str, told: str) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, data)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "settings.yaml"))
    assert told in message
    assert len(message) < len(str(tmp_path)) + 1000


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"{tmp_path}: cannot be read"):
        read_settings(tmp_path, Outer)


def test_an_architecture_s_settings_have_text_keys(tmp_path: Path) -> None:
    path = tmp_path / "recipes.yaml"
    path.write_text("recipes:\n  a: {description: x, architecture: autoint, model: {1: 2}}\n")
    with pytest.raises(DataError, match=f"{path}, line 2: expected text as a key, found 1"):
        load_recipes(path)
