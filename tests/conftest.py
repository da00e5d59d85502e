"""Fixtures that all tests share, and which tests share a process."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml.data.formats import RawTables
from ml.data.movielens import MOVIELENS_1M
from ml.data.synthetic import SMALL, write_synthetic
from tests.environment import Environment

PIPELINE = "materialized"  # the fixture that takes longest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", type=Path, help="where the browser tests keep their pictures")
    parser.addoption("--image-storage", type=Path, help="where the tests of images keep them for the next run")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Name the group of each test: a group's tests share a process (``--dist loadgroup``), and so what fixtures made.

    All tests of the materialized pipeline are one group, which starts first since it takes longest. The other tests of
    a file are one group, unless marked otherwise.
    """
    for item in items:
        if not item.get_closest_marker("xdist_group"):
            of_pipeline = PIPELINE in getattr(item, "fixturenames", ())
            item.add_marker(pytest.mark.xdist_group("pipeline" if of_pipeline else item.nodeid.split("::")[0]))
    items.sort(key=lambda item: PIPELINE not in getattr(item, "fixturenames", ()))


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse an xdist that ignores groups, and tell the garbage collector that what was imported stays."""
    if getattr(session.config.option, "loadgroup", False) and any("@" not in item.nodeid for item in session.items):
        raise pytest.UsageError("pytest-xdist ignores groups with this pytest; install the versions of constraints.txt")
    gc.freeze()
    gc.set_threshold(20_000)  # tests make many objects and keep few
    gc.enable()


@pytest.fixture
def monkeypatch() -> Iterator[pytest.MonkeyPatch]:
    """Pytest's own, after whose changes of the environment settings are read again."""
    with Environment.context() as patch:
        yield patch


@pytest.fixture(scope="session")
def screenshots(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the browser tests keep their pictures."""
    return request.config.getoption("--screenshots") or tmp_path_factory.mktemp("screenshots")


@pytest.fixture(scope="session")
def small_raw_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three raw files of the small synthetic data set, to be read only."""
    directory = tmp_path_factory.mktemp("raw")
    write_synthetic(directory, SMALL, seed=42)
    return directory


@pytest.fixture(scope="session")
def small_raw(small_raw_directory: Path) -> RawTables:
    """The small synthetic data set as raw frames, to be read only."""
    return MOVIELENS_1M.read(small_raw_directory)
