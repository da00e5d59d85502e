"""List the files of an incoming directory: which are ingestion batches, and why others cannot be ingested."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from ml.data.formats import Format
from ml.data.manifest import KINDS, parsed_name

MEANT = re.compile(rf"({'|'.join(KINDS)})-", re.IGNORECASE)  # start of names that are meant to be batches
_PENDING_NAME = re.compile(r"(.*?)(\.[0-9a-f]{8})?")  # a name on arrival, and what tells it from an earlier one


def visible(folder: Path) -> list[Path]:
    """Return a directory's entries, except names that start with a dot: those files are still being written."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def batches(folder: Path, form: Format, name_of: Callable[[Path], str] = lambda path: path.name) -> list[Path]:
    """Return regular files that are named like batches of a format; ``name_of`` returns a file's name on arrival."""
    return [path for path in visible(folder) if not obstacle(path, name_of(path), form)]


def obstacle(path: Path, name: str, form: Format) -> str:
    """Return why a file cannot be ingested, and what was expected; empty if it can."""
    if path.is_symlink():
        problem = "it is a link"
    elif path.is_dir():
        problem = "it is a directory"
    elif not path.is_file():
        problem = "it is not a regular file"
    elif not (found := parsed_name(name)):
        problem = "its name has a different form, or a date that does not exist"
    elif found[0] not in form.files:
        problem = f"{form.name} has no files of {found[0]}"
    elif found[2] != form.files[found[0]].suffix:
        problem = f"it has another suffix than {form.files[found[0]].suffix}"
    elif not os.access(path, os.R_OK):
        problem = "it is not readable"
    else:
        return ""
    names = ", ".join(f"{kind}-2003-03-01{file.suffix}" for kind, file in reversed([*form.files.items()]))
    return (
        f"{problem}; expected a regular file with a name such as {names} "
        "(or one that starts with a dot, while it is being written)"
    )


def shown(path: Path) -> str:
    """Return a file's name as printable text on one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path.name)


def name_on_arrival(path: Path) -> str:
    """Return a pending file's name on arrival."""
    return str(_PENDING_NAME.fullmatch(path.name)[1])  # type: ignore[index]  # it matches every name
