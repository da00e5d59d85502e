"""Code versions of assets: a version changes exactly when the code behind it does.

Dagster compares code versions, but leaves it to the author to change them.
"""

import ast
import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from orchestration.config.settings import PROJECT_ROOT

_LIBRARY = "ml"
# Imported packages whose version can change a result, with the distributions that provide them.
_DECISIVE = {
    "gensim": ("gensim",),
    "implicit": ("implicit",),
    "keras": ("keras", "tensorflow-cpu", "tensorflow", "jax", "torch"),
    "numba": ("numba",),
    "numpy": ("numpy",),
    "pandas": ("pandas",),
    "scipy": ("scipy",),
    "sklearn": ("scikit-learn",),
}


@cache
def code_version(*modules: str) -> str:
    """Version of modules: of their code, of the library's code that they import, and of the packages it computes with.

    Imports inside functions count. Comments and formatting do not.

    Args:
        modules: dotted names of modules of this project.
    """
    found = sources(*modules)
    parts = [f"{name} {source.syntax}" for name, source in sorted(found.items())]
    imported = {name.split(".")[0] for source in found.values() for name in source.imports}
    for package in sorted(imported & set(_DECISIVE)):
        parts += [f"{name} {_installed(name)}" for name in _DECISIVE[package]]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


class Source(NamedTuple):
    """A module's syntax, as text, and the dotted names that it may import."""

    syntax: str
    imports: frozenset[str]


def sources(*modules: str) -> dict[str, Source]:
    """These modules and all modules of the library that they import, directly or not, by name."""
    found: dict[str, Source] = {}
    waiting = [*modules]
    while waiting:
        name = waiting.pop()
        path = _path(name)
        if name in found or path is None:
            continue
        found[name] = _parsed(path.read_text("utf-8"))
        waiting += [other for other in found[name].imports if other.split(".")[0] == _LIBRARY]
    return found


@cache  # called for every asset, often with the same modules
def _parsed(text: str) -> Source:
    tree = ast.parse(text)
    return Source(ast.dump(tree), frozenset(_imports(tree)))


def _path(module: str) -> Path | None:
    """The file of a module or package of this project; None for any other name."""
    place = PROJECT_ROOT.joinpath(*module.split("."))
    candidates = (place.with_suffix(".py"), place / "__init__.py")
    return next((path for path in candidates if path.is_file()), None)


def _imports(tree: ast.AST) -> set[str]:
    """Dotted names that may be modules: of ``from a.b import c``, ``a``, ``a.b`` and ``a.b.c``."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    parts = [name.split(".") for name in names]
    return {".".join(part[:length]) for part in parts for length in range(1, len(part) + 1)}


def _installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
