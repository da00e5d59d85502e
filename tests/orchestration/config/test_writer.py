import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from upath import UPath

from ml.errors import DataError
from orchestration.__main__ import main as command
from orchestration.config import writer
from orchestration.config.settings import PROJECT_ROOT
from orchestration.config.writer import claim_home


@pytest.fixture
def remote_home(env: pytest.MonkeyPatch, tmp_path: Path) -> UPath:
    """A home that is no local directory, set in the environment."""
    home = f"memory://{uuid.uuid4().hex}/home"
    env.setenv("PIPELINE_HOME", home)
    env.setattr(writer.socket, "gethostname", lambda: "here")
    return UPath(home)


def test_one_checkout_writes_to_a_home_that_is_a_url(remote_home: UPath, env: pytest.MonkeyPatch) -> None:
    for _ in range(2):
        claim_home()
    path = remote_home / "writer.json"
    assert json.loads(path.read_bytes()) == {"host": "here", "checkout": str(PROJECT_ROOT)}
    for name, value in (("gethostname", "there"), ("PROJECT_ROOT", Path("/other"))):
        with env.context() as patch:
            if name == "gethostname":
                patch.setattr(writer.socket, name, lambda: "there")
            else:
                patch.setattr(writer, name, value)
            with pytest.raises(DataError, match=f"the checkout {PROJECT_ROOT} on here; .* remove the file") as caught:
                claim_home()
            assert str(caught.value).startswith(str(path))
            assert str(value) in str(caught.value)
    path.unlink()
    env.setattr(writer.socket, "gethostname", lambda: "there")
    claim_home()
    assert json.loads(path.read_bytes())["host"] == "there"


def test_a_run_of_another_checkout_is_refused_before_it_starts(
    remote_home: UPath, capsys: pytest.CaptureFixture[str]
) -> None:
    (remote_home / "writer.json").parent.mkdir(parents=True, exist_ok=True)
    (remote_home / "writer.json").write_text('{"host": "there", "checkout": "/other"}')
    assert command(["execute", "synthetic-small", "random", "tag"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert "the writer of this home is the checkout /other on there" in line


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"host": 1, "checkout": "/other"}', b"[" * 10**5])
def test_a_damaged_claim_is_named(remote_home: UPath, content: bytes) -> None:
    path: Any = remote_home / "writer.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    with pytest.raises(DataError, match=str(path)):
        claim_home()


def test_a_local_home_needs_no_claim(tmp_path: Path) -> None:
    claim_home()
    assert not (tmp_path / "home").exists()
