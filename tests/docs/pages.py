"""Read commands, links and pictures from README.md, CONTRIBUTING.md and the pages under docs/."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestration.config.settings import PROJECT_ROOT

PAGES = (
    *(PROJECT_ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted((PROJECT_ROOT / "docs").glob("*.md")),
)
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`(make [^`]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_TABLE = re.compile(r"(?:^\|.*\|\n)+", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """A command that a page tells its reader to type.

    Attributes:
        page: the page's name.
        language: ``sh`` or ``python``.
        text: a line of shell without its comment, or a whole Python block.
    """

    page: str
    language: str
    text: str


def commands() -> list[Command]:
    """Return all commands of fenced blocks, and all make commands in running text, once per page."""
    found = [command for page in PAGES for command in _commands_of(page)]
    return list(dict.fromkeys(found))


def links(page: Path) -> Iterator[str]:
    """Yield the targets of a page's links and pictures."""
    yield from _LINK.findall(_without_blocks(page))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, in GitHub's form."""
    headings = _HEADING.findall(_without_blocks(page))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def tables(page: Path) -> list[dict[str, dict[str, str]]]:
    """Return a page's tables: their cells, without emphasis, by the row's first cell and the column's heading."""
    return [_cells(table) for table in _TABLE.findall(_without_blocks(page))]


def _cells(table: str) -> dict[str, dict[str, str]]:
    heading, _, *rows = ([cell.strip(" *") for cell in line.strip("|").split("|")] for line in table.splitlines())
    return {name: dict(zip(heading[1:], cells, strict=True)) for name, *cells in rows}


def _without_blocks(page: Path) -> str:
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def _commands_of(page: Path) -> Iterator[Command]:
    text = page.read_text(encoding="utf-8")
    for language, block in _BLOCK.findall(text):
        if language == "python":
            yield Command(page.name, language, block)
        elif language == "sh":
            lines = block.replace("\\\n", " ").splitlines()
            yield from (Command(page.name, language, line) for line in map(_without_comment, lines) if line)
    for line in _INLINE.findall(_BLOCK.sub("", text)):
        yield Command(page.name, "sh", line)


def _without_comment(line: str) -> str:
    return " ".join(re.sub(r"(^|\s)#.*$", "", line).split())
