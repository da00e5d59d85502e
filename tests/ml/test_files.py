import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from upath import UPath

from ml.files import TEMPORARY_NAME, replace_files, write_atomically


@pytest.fixture(params=["local", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> UPath:
    return UPath(tmp_path) if request.param == "local" else UPath(f"memory://{uuid.uuid4().hex}")


def names(folder: UPath) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_file_is_replaced_whole(folder: UPath) -> None:
    path = folder / "deep" / "file.bin"
    write_atomically(path, b"a long first content")
    assert path.read_bytes() == b"a long first content"
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert names(path.parent) == ["file.bin"]


def half_write(path: UPath, data: bytes) -> int:
    with path.open("wb") as file:
        file.write(data[: len(data) // 2])
    raise OSError("disk full")


def fail(*_: object, **__: object) -> None:
    raise OSError("disk full")


@pytest.mark.parametrize(("method", "broken"), [("write_bytes", half_write), ("rename", fail)])
def test_failed_write_leaves_the_old_content(
    folder: UPath, monkeypatch: pytest.MonkeyPatch, method: str, broken: Callable[..., None]
) -> None:
    path = folder / "file.bin"
    write_atomically(path, b"old")
    monkeypatch.setattr(type(path), method, broken)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new content")
    assert path.read_bytes() == b"old"
    assert names(folder) == ["file.bin"]


def test_reader_never_sees_the_target_while_it_is_written(folder: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "file.bin"
    write_atomically(path, b"old")
    original = type(path).write_bytes
    seen = []

    def observed(self: UPath, data: bytes) -> int:
        written = original(self, data)
        seen.append((self.name != path.name, path.read_bytes()))
        return written

    monkeypatch.setattr(type(path), "write_bytes", observed)
    write_atomically(path, b"new")
    assert seen == [(True, b"old")]


def test_failed_replacement_of_several_files_changes_none(folder: UPath, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [folder / "first.bin", folder / "second.bin"]
    replace_files(dict.fromkeys(files, b"old"))
    original = type(folder).write_bytes

    def full(self: UPath, data: bytes) -> int:
        return half_write(self, data) if "second" in self.name else original(self, data)

    monkeypatch.setattr(type(folder), "write_bytes", full)
    with pytest.raises(OSError, match="disk full"):
        replace_files(dict.fromkeys(files, b"new content"))
    assert [path.read_bytes() for path in files] == [b"old", b"old"]
    assert names(folder) == ["first.bin", "second.bin"]


def test_local_content_reaches_the_disk_before_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.append(sorted(path.name for path in tmp_path.iterdir())))
    write_atomically(tmp_path / "file.bin", b"content")
    (temporary,), renamed = synced
    assert TEMPORARY_NAME.fullmatch(temporary)
    assert renamed == ["file.bin"]
