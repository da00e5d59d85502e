"""List the files of an incoming directory: which are ingestion batches, and why others cannot be ingested."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from ml.data.manifest import KINDS, kind_and_date

MEANT = re.compile(rf"({'|'.join(KINDS)})-", re.IGNORECASE)  # start of names that are meant to be batches
_EXPECTED = "a regular file with a name such as ratings-2003-03-01.dat"


def visible(folder: Path) -> list[Path]:
    """Return a directory's entries, except names that start with a dot: those files are still being written."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith(".")) if folder.is_dir() else []


def batches(folder: Path, name_of: Callable[[Path], str] = lambda path: path.name) -> list[Path]:
    """Return regular files that are named like batches; ``name_of`` returns a file's name on arrival."""
    return [path for path in visible(folder) if not obstacle(path, name_of(path))]


def obstacle(path: Path, name: str) -> str:
    """Return why a file cannot be ingested, and what was expected; empty if it can."""
    if path.is_symlink():
        problem = "it is a link"
    elif path.is_dir():
        problem = "it is a directory"
    elif not path.is_file():
        problem = "it is not a regular file"
    elif not kind_and_date(name):
        problem = "its name has a different form, or a date that does not exist"
    elif not os.access(path, os.R_OK):
        problem = "it is not readable"
    else:
        return ""
    return f"{problem}; expected {_EXPECTED} (or one that starts with a dot, while it is being written)"


def shown(path: Path) -> str:
    """Return a file's name as printable text on one line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in path.name)


def name_on_arrival(path: Path) -> str:
    """Return a pending file's name on arrival."""
    return path.name.partition(".dat")[0] + ".dat"
