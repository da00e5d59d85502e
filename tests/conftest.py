"""Fixtures that all tests share."""

from pathlib import Path

import pytest

from ml.data.movielens import RawTables, read_movielens
from ml.data.synthetic import SMALL, write_synthetic


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", type=Path, help="where the browser tests keep their pictures")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist looks at the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests share a process, and so do all that look at the one materialized pipeline, in their order."""
    for item in items:
        shared = "materialized" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("pipeline" if shared else item.location[0]))


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
    return read_movielens(small_raw_directory)
