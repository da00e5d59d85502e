import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from playwright.sync_api import Browser, Page

from orchestration.config.settings import PROJECT_ROOT
from tests.browser import START_SECONDS, answers, chromium, server
from tests.small_home import small_home
from tests.waiting import SECONDS, until

RUN_SECONDS = 900


@dataclass(frozen=True)
class Uis:
    """Addresses of both UIs, in a home in which the pipeline has run once."""

    dagster: str
    mlflow: str


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="session")
def uis(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Uis]:
    own = small_home(tmp_path_factory.mktemp("uis"))
    subprocess.run(
        [sys.executable, "-m", "orchestration", "run", "random"],
        cwd=PROJECT_ROOT,
        env={**os.environ, **own},
        check=True,
        timeout=RUN_SECONDS,
    )
    found = Uis(*(f"http://127.0.0.1:{own[name]}" for name in ("DAGSTER_PORT", "MLFLOW_PORT")))
    with server("orchestration", found.dagster, own, "ui"):
        until(lambda: answers(found.mlflow), START_SECONDS)
        yield found


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """The UIs' own scripts are not this project's: their messages are not looked at."""
    opened = browser.new_page(viewport={"width": 1600, "height": 1000})
    opened.set_default_timeout(SECONDS * 1000)
    yield opened
    opened.close()
