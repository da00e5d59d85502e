"""Fixtures that all tests share."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

from ml.data.movielens import RawTables, read_movielens
from ml.data.synthetic import SMALL, write_synthetic
from orchestration.config.settings import PROJECT_ROOT
from tests.environment import Environment


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--screenshots", type=Path, help="where the browser tests keep their pictures")


class _OnePipeline(LoadFileScheduling):
    """A file's tests share a process, and so do all files that look at the one materialized pipeline."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return "pipeline" if _looks_at_the_pipeline(file) else file


@cache
def _looks_at_the_pipeline(file: str) -> bool:
    # Fixtures are not known to the process that hands out the tests.
    text = (PROJECT_ROOT / file).read_text(encoding="utf-8")
    return "Pipeline" in text or "materialized" in text


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> _OnePipeline:
    return _OnePipeline(config, log)


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
    return read_movielens(small_raw_directory)
