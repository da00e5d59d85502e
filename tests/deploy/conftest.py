"""The images, built once, and a home that the pipeline's image has filled."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from orchestration.config.settings import PROJECT_ROOT
from tests.deploy.buildah import USER, Container, Image, Storage, missing

JOB = {
    "MOVIELENS_DIR": "synthetic-small",
    "RECIPES_YAML": "docs/try/recipes.yaml",
    "MLFLOW_YAML": "docs/try/mlflow.yaml",
}
OUT = PROJECT_ROOT / "var" / "images"


@pytest.fixture(scope="session")
def storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """Where images are kept; the option --image-storage keeps it for the next run."""
    folder = request.config.getoption("--image-storage") or tmp_path_factory.mktemp("images")
    folder.mkdir(parents=True, exist_ok=True)
    if reason := missing(folder):
        pytest.skip(reason)
    found = Storage(folder.resolve())
    found.make_base()
    return found


@pytest.fixture(scope="session")
def image(storage: Storage) -> Callable[[str], Image]:
    """Build a target's image at the first request for it."""
    return cache(lambda target: storage.build(target, OUT))


@pytest.fixture(scope="session")
def container(image: Callable[[str], Image]) -> Iterator[Callable[[str], Container]]:
    """Make a target's container at the first request for it."""
    with ExitStack() as stack:
        yield cache(lambda target: stack.enter_context(image(target).container()))


@pytest.fixture(scope="session")
def home(storage: Storage, container: Callable[[str], Container]) -> Path:
    """A home that ``run`` has filled in the pipeline's image, as its user; kept with the images."""
    folder = storage.folder / "home"
    if (folder / "archive").exists():
        return folder
    folder.mkdir(exist_ok=True)
    os.chown(folder, USER, USER)
    pipeline = container("pipeline").on(folder, JOB, writable=True)
    done = pipeline.run("python", "-m", "orchestration", "run", "random")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert pipeline.written() == []
    return folder
