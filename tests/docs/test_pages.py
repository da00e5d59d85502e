"""Test the pages: commands exist, links resolve, and the configuration page matches the code."""

import re
import subprocess
from pathlib import Path

import pytest

from orchestration.config.settings import PROJECT_ROOT
from tests.docs import configuration
from tests.docs.pages import PAGES, Command, anchors, commands, links, tables
from tests.docs.running import rule_of

COMMANDS = commands()


def test_configuration_page_matches_the_code() -> None:
    assert configuration.PATH.read_text(encoding="utf-8") == configuration.document(), "run make docs"


def test_every_setting_has_a_meaning() -> None:
    rows = [line.split(" | ") for line in configuration.document().splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert [row[0] for row in rows if not row[-1].strip(" |")] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_resolve(page: Path) -> None:
    for link in links(page):
        if not link.startswith(("https://", "http://")):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_pictures_are_used() -> None:
    shown = {(page.parent / link).resolve() for page in PAGES for link in links(page)}
    pictures = {path.resolve() for path in (PROJECT_ROOT / "docs").rglob("*.png")}
    assert pictures - shown == set()


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: f"{command.page}-{command.text.splitlines()[0]}")
def test_command_has_a_rule(command: Command) -> None:
    assert rule_of(command), f"{command}: add a rule to tests/docs/running.py"


def test_make_targets_exist() -> None:
    makefile = (PROJECT_ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", makefile, re.MULTILINE))
    named = {name for command in COMMANDS for name in re.findall(r"(?:^|\s)make ([a-z][a-z0-9-]*)", command.text)}
    assert named <= targets
    assert "run" in named
    listed = subprocess.run(["make", "help"], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True).stdout
    assert all(f"make {name} " in listed for name in named)


def test_the_readme_has_the_figures_of_the_results_page() -> None:
    results, readme = tables(PROJECT_ROOT / "docs" / "results.md"), tables(PROJECT_ROOT / "README.md")
    own, catalog = (next(table for table in results if column in table["AutoInt"]) for column in ("AUC", "coverage"))
    own["biased matrix factorization"] = own["biased matrix factorization, 15 factors"]
    catalog["EASE"] = catalog["EASE (penalty 500)"]
    compared = 0
    for name, row in next(table for table in readme if "AutoInt" in table).items():
        for column, told in row.items():
            of_catalog = column.removeprefix("all movies: ")
            figure = (own if of_catalog == column else catalog).get(name, {}).get(of_catalog)
            if told and figure:
                assert float(told) == round(float(figure), len(told.partition(".")[2])), f"{name}, {column}"
                compared += 1
    assert compared >= 40
