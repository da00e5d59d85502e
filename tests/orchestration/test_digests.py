import os
import time
from pathlib import Path

import pytest
from upath import UPath

from ml.files import digest
from orchestration.resources import digests
from orchestration.resources.digests import Digests

BEGIN = time.time()


@pytest.fixture
def read_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files whose content was read."""
    read: list[str] = []

    def of_file(path: Path) -> str:
        read.append(path.name)
        return digest(path.read_bytes())

    monkeypatch.setattr(digests, "digest_of_file", of_file)
    return read


@pytest.fixture
def _sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if each file had changed long ago."""
    monkeypatch.setattr(digests, "_SECONDS_UNTIL_SURE", -60)


def write(path: Path, text: str, seconds_ago: float = 60) -> None:
    path.write_text(text)
    moment = BEGIN - seconds_ago
    os.utime(path, (moment, moment))


@pytest.mark.usefixtures("_sure")
def test_a_file_is_read_once(tmp_path: Path, read_files: list[str]) -> None:
    write(tmp_path / "a", "one")
    first = Digests(tmp_path / "digests.json")
    assert [first.of(tmp_path / "a") for _ in range(3)] == [digest(b"one")] * 3
    first.save()
    assert Digests(tmp_path / "digests.json").of(tmp_path / "a") == digest(b"one")
    assert read_files == ["a"]


@pytest.mark.usefixtures("_sure")
@pytest.mark.parametrize(("text", "seconds_ago"), [("two", 59), ("three", 60), ("two", 60)])
def test_a_change_is_noticed(tmp_path: Path, text: str, seconds_ago: float) -> None:
    """Also of a file whose size and time are set to those of before."""
    write(tmp_path / "a", "one")
    known = Digests(tmp_path / "digests.json")
    known.of(tmp_path / "a")
    time.sleep(0.05)  # file systems' clocks are coarse
    write(tmp_path / "a", text, seconds_ago)
    assert known.of(tmp_path / "a") == digest(text.encode())


def test_a_file_that_has_just_changed_is_read_again(tmp_path: Path) -> None:
    write(tmp_path / "a", "one", seconds_ago=0)
    known = Digests(tmp_path / "digests.json")
    known.of(tmp_path / "a")
    stamp = (tmp_path / "a").stat().st_mtime
    (tmp_path / "a").write_text("two")
    os.utime(tmp_path / "a", (stamp, stamp))
    assert known.of(tmp_path / "a") == digest(b"two")


@pytest.mark.parametrize("content", ["", "[", "[]", '{"a": 1}', '{"a": [1, 2]}'])
@pytest.mark.usefixtures("_sure")
def test_a_damaged_file_is_replaced(tmp_path: Path, content: str) -> None:
    write(tmp_path / "a", "one")
    path = tmp_path / "digests.json"
    path.write_text(content)
    known = Digests(path)
    assert known.of(tmp_path / "a") == digest(b"one")
    known.save()
    assert str(tmp_path / "a") in path.read_text()


def test_files_may_be_on_a_remote_file_system(tmp_path: Path) -> None:
    path = UPath("memory://digests/a")
    path.write_bytes(b"one")
    assert Digests(tmp_path / "digests.json").of(path) == digest(b"one")
    path.write_bytes(b"two")
    assert Digests(tmp_path / "digests.json").of(path) == digest(b"two")


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Digests(tmp_path / "digests.json").of(tmp_path / "a")
