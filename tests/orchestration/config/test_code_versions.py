from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestration.config import code_versions
from orchestration.config.code_versions import code_version

FILES = {
    "orchestration/assets/one.py": """
from ml import schema

def asset():
    from ml.models.net import build
    return build(schema.X)
""",
    "ml/__init__.py": "",
    "ml/schema.py": "X = 1\n",
    "ml/models/__init__.py": "",
    "ml/models/net.py": "import numpy as np\n\nimport ml.models.layers\n\n\ndef build(x):\n    return np.ones(x)\n",
    "ml/models/layers.py": "WIDTH = 3\n",
    "ml/unused.py": "import pandas\n",
}


@pytest.fixture
def project(env: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    env.setattr(code_versions, "PROJECT_ROOT", tmp_path)
    code_version.cache_clear()
    yield tmp_path
    code_version.cache_clear()


def version_after(change: Callable[[], object]) -> tuple[str, str]:
    """The asset module's version before and after a change."""
    before = code_version("orchestration.assets.one")
    change()
    code_version.cache_clear()
    return before, code_version("orchestration.assets.one")


@pytest.mark.parametrize(
    "name",
    ["orchestration/assets/one.py", "ml/schema.py", "ml/models/net.py", "ml/models/layers.py", "ml/models/__init__.py"],
)
def test_changes_with_the_code_that_is_reached(project: Path, name: str) -> None:
    before, after = version_after(lambda: (project / name).write_text(FILES[name] + "Y = 2\n", "utf-8"))
    assert before != after


@pytest.mark.parametrize(
    ("name", "text"),
    [("ml/unused.py", "Y = 2\n"), ("ml/schema.py", "# which it is\nX  =  1\n"), ("ml/models/other.py", "Y = 2\n")],
    ids=["not reached", "comment and spaces", "new and not reached"],
)
def test_other_code_changes_nothing(project: Path, name: str, text: str) -> None:
    before, after = version_after(lambda: (project / name).write_text(text, "utf-8"))
    assert before == after


@pytest.mark.parametrize(("distribution", "differs"), [("numpy", True), ("pandas", False)])
def test_changes_with_the_packages_that_are_reached(
    project: Path, env: pytest.MonkeyPatch, distribution: str, differs: bool
) -> None:
    installed = code_versions.version
    before, after = version_after(
        lambda: env.setattr(code_versions, "version", lambda name: "0" if name == distribution else installed(name))
    )
    assert (before != after) == differs


def test_the_training_reaches_models_and_not_the_lists() -> None:
    reached = set(code_versions.sources("orchestration.steps.training", "orchestration.steps.starting_point"))
    assert {"ml.models.layers", "ml.training.trainer", "ml.features.collaborative"} <= reached
    assert not {"ml.inference.engine.shortlist", "ml.data.synthetic"} & reached
