"""A real browser, and servers for it to look at."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from orchestration.config.settings import PROJECT_ROOT
from tests.waiting import until

NAMES = ("chromium", "chromium-browser", "google-chrome")
DESKTOP, PHONE = (1280, 900), (390, 844)
START_SECONDS, STOP_SECONDS = 180, 60


@contextmanager
def chromium() -> Iterator[Browser]:
    """The system's Chromium, without a window; the test is skipped where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"none of {', '.join(NAMES)} is there; install one (apt install chromium)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def open_page(browser: Browser, size: tuple[int, int] = DESKTOP) -> Iterator[Page]:
    """A page in which nothing may fail: errors of its scripts fail the test."""
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    yield page
    page.close()
    assert errors == []


@contextmanager
def server(module: str, ready: str, variables: Mapping[str, Any], *arguments: str) -> Iterator[None]:
    """``python -m module arguments`` with these variables, until ``ready``, an address, answers."""
    environment = {**os.environ, **{name: str(value) for name, value in variables.items()}}
    process = subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=PROJECT_ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        until(lambda: process.poll() is not None or answers(ready), START_SECONDS)
        assert process.poll() is None, f"{module} ended with status {process.returncode}"
        yield
    finally:
        os.killpg(process.pid, signal.SIGINT)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise


def answers(address: str) -> bool:
    """Whether something there answers."""
    try:
        urlopen(address, timeout=5).close()
    except (URLError, OSError):
        return False
    return True


def fits_width(page: Page) -> bool:
    """Whether nothing has to be scrolled sideways."""
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def keep(page: Page, folder: Path, name: str) -> None:
    """A screenshot."""
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png")
