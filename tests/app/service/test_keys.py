"""Test the file of API keys: what it may have, and that it can change while the service runs."""

import asyncio
import secrets
from pathlib import Path

import pytest

from app.service.keys import Keys
from ml.errors import DataError
from tests.app.service.conftest import Log

SHOP, APP = "0f8c2a7d4e91b36507dc18fa92e4bb63", "Vb2_Zk0xQ9-mT7uLwE4rYp3sHc8nJd6fAg1iOo5K"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "keys"
    found.write_text(f"shop: {SHOP}\n")
    return found


def test_keys_have_names(path: Path) -> None:
    path.write_text(f"# of the shop, the new one too\n\nshop: {SHOP}\r\n  shop:{SHOP[::-1]}  \nnight-app_2 : {APP}")
    keys = Keys(path)
    assert [keys.name_of(each.encode()) for each in (SHOP, SHOP[::-1], APP)] == ["shop", "shop", "night-app_2"]
    assert keys.names == ["night-app_2", "shop"]
    for wrong in ("", SHOP[:-1], f"{SHOP}0", SHOP.upper(), "shop", f"shop: {SHOP}", "é", "\x00"):
        assert keys.name_of(wrong.encode()) is None, wrong


@pytest.mark.parametrize(
    "make", [lambda: secrets.token_hex(16), lambda: secrets.token_urlsafe(24), lambda: secrets.token_urlsafe(192)]
)
def test_random_keys_are_accepted(make: "type[str]", path: Path) -> None:
    path.write_text("".join(f"name-{number}: {make()}\n" for number in range(256)))
    assert len(Keys(path).names) == 256


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("shop: 0f8c2a7d4e91b36507dc18fa92e4bb6", "has 31 characters, expected 32 to 256"),
        (f"shop: {'0f8c2a7d4e91b365' * 17}", "has 272 characters"),
        (f"shop: {'ab' * 32}", "is too regular"),
        ("shop: abcdefghijklmnopqrstuvwxyz0123456789", "is too regular"),
        ("shop: changemechangemechangemechangeme", "is too regular"),
        ("shop: 0f8c2a7d4e91b36507dc18fa92e4bb6é", "has other characters"),
        ("0f8c2a7d4e91b36507dc18fa92e4bb64", "expected <name>: <key>"),
        ("the shop: 0f8c2a7d4e91b36507dc18fa92e4bb64", "expected <name>: <key>"),
        ("shop: 0f8c2a7d4e91b36507dc18fa92e4bb64 # ours", "expected <name>: <key>"),
        (f"other: {APP}", "the key of other is that of line 1; remove"),
    ],
)
def test_bad_line_is_named_without_the_key(line: str, told: str, path: Path) -> None:
    path.write_text(f"app: {APP}\n\n{line}\n")
    with pytest.raises(DataError) as raised:
        Keys(path)
    assert f"{path}, line 3: " in str(raised.value)
    assert told in str(raised.value)
    secret = line.rpartition(": ")[2].split()[0]
    assert secret not in str(raised.value)
    assert secret[:12] not in str(raised.value)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "expected 1 to 256 API keys, found 0"),
        (b"# none yet\n", "expected 1 to 256 API keys, found 0"),
        ("".join(f"a: {secrets.token_hex(16)}\n" for _ in range(257)).encode(), "found 257"),
        (b"#" * 200_000, "at most 131,072 bytes"),
        (None, "cannot be read"),
    ],
    ids=["empty", "a comment", "too many", "too long", "missing"],  # random keys would make other ids in each process
)
def test_file_without_usable_keys_is_refused(content: bytes | None, told: str, path: Path) -> None:
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=told) as raised:
        Keys(path)
    assert str(path) in str(raised.value)


def watched(keys: Keys, log: Log, changes: list[tuple[Path, bytes | None]]) -> None:
    """Change the file while it is watched, waiting after each change."""

    async def change() -> None:
        watching = asyncio.create_task(keys.watch(log.logger, 0.005))
        for path, content in changes:
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)
            await asyncio.sleep(0.2)
        watching.cancel()

    asyncio.run(change())


def test_keys_are_exchanged_while_the_service_runs(path: Path) -> None:
    keys, log = Keys(path), Log()
    watched(keys, log, [(path, f"shop: {SHOP}\nshop: {APP}\n".encode()), (path, f"shop: {APP}\n".encode())])
    assert (keys.name_of(SHOP.encode()), keys.name_of(APP.encode())) == (None, "shop")
    assert [line["names"] for line in log.of("keys_changed")] == [["shop"], ["shop"]]


def test_secret_that_is_mounted_is_exchanged(tmp_path: Path) -> None:
    """Kubernetes exchanges a secret by the target of a link to its directory."""
    for version, key in (("1", SHOP), ("2", APP)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "keys").write_text(f"shop: {key}")
    (tmp_path / "data").symlink_to("1")
    (tmp_path / "keys").symlink_to("data/keys")
    keys = Keys(tmp_path / "keys")
    (tmp_path / "new").symlink_to("2")
    (tmp_path / "new").rename(tmp_path / "data")
    assert keys.refresh()
    assert (keys.name_of(SHOP.encode()), keys.name_of(APP.encode())) == (None, "shop")


@pytest.mark.parametrize("damaged", [None, b"", b"shop: short", b"\x00" * 50, f"{SHOP}\n".encode()])
def test_damaged_file_keeps_the_last_good_keys_and_is_logged_once(damaged: bytes | None, path: Path) -> None:
    keys, log = Keys(path), Log()
    watched(keys, log, [(path, damaged)])
    assert keys.name_of(SHOP.encode()) == "shop"
    assert keys.name_of(b"short") is None
    [line] = log.of("keys_not_read")
    assert line["log_level"] == "error"
    assert str(path) in line["error"]
    assert "stay valid" in line["error"]
    assert SHOP not in str(log.lines)
    watched(keys, log, [(path, f"shop: {APP}".encode())])
    assert keys.name_of(APP.encode()) == "shop"
    assert keys.name_of(SHOP.encode()) is None
