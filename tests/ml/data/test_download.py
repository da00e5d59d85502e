import hashlib
import io
import socket
import threading
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from ml.data import download
from ml.data.datasets import Archive
from ml.data.download import OfflineError, fetch
from ml.errors import DataError

CONTENT = {
    "users.dat": b"1::F::1::0::01234\n",
    "movies.dat": b"2::L\xe9a (1990)::Drama\r\n",
    "ratings.dat": b"1::2::3::4\n",
}
NAMES = tuple(CONTENT)
MEMBERS = {f"ml-1m/{name}": content for name, content in CONTENT.items()}


class Server:
    """A local HTTP server that sends every client the same response and counts requests."""

    def __init__(self) -> None:
        self.status, self.body, self.missing_bytes, self.requests = 200, b"", 0, 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(outer.body) + outer.missing_bytes))
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/ml-1m.zip"

    @property
    def md5(self) -> str:
        return hashlib.md5(self.body).hexdigest()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    server.body = zipped(MEMBERS)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return the target: a directory that does not exist, in an empty one."""
    (tmp_path / "cache").mkdir()
    return tmp_path / "cache" / "ml-1m"


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def assert_nothing_left(target: Path) -> None:
    assert list(target.parent.iterdir()) == []


def test_good_archive_is_extracted_and_nothing_else_left(server: Server, target: Path) -> None:
    assert fetch(target, Archive(url=server.url, md5=server.md5), NAMES) == target
    assert contents(target) == CONTENT
    assert list(target.parent.iterdir()) == [target]


def test_missing_parents_are_created(server: Server, target: Path) -> None:
    deep = target / "a" / "b"
    fetch(deep, Archive(url=server.url, md5=server.md5), NAMES)
    assert contents(deep) == CONTENT


def test_second_call_makes_no_request(server: Server, target: Path) -> None:
    fetch(target, Archive(url=server.url, md5=server.md5), NAMES)
    assert server.requests == 1
    assert fetch(target, Archive(url=server.url, md5=server.md5), NAMES) == target
    assert server.requests == 1
    assert contents(target) == CONTENT


def test_wrong_digest_is_refused_and_removed(server: Server, target: Path) -> None:
    expected = "0" * 32
    with pytest.raises(DataError, match=f"md5 {expected}") as caught:
        fetch(target, Archive(url=server.url, md5=expected), NAMES)
    assert server.url in str(caught.value)
    assert not isinstance(caught.value, OfflineError)
    assert_nothing_left(target)


def test_truncated_download_is_refused(server: Server, target: Path) -> None:
    # The digest matches the part that arrives, so only the missing bytes can reveal the truncation.
    server.missing_bytes = 1000
    with pytest.raises(DataError, match=server.url):
        fetch(target, Archive(url=server.url, md5=server.md5), NAMES)
    assert_nothing_left(target)


@pytest.mark.parametrize("status", [404, 500])
def test_error_status_is_not_called_offline(server: Server, target: Path, status: int) -> None:
    server.status = status
    with pytest.raises(DataError, match=str(status)) as caught:
        fetch(target, Archive(url=server.url, md5=server.md5), NAMES)
    assert not isinstance(caught.value, OfflineError)
    assert_nothing_left(target)


def test_unreachable_server_says_what_to_do(target: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/ml-1m.zip"
        with pytest.raises(OfflineError) as caught:
            fetch(target, Archive(url=url, md5="0" * 32), NAMES)
    assert str(caught.value).startswith(f"{url}: cannot be reached")
    assert "set MOVIELENS_DIR" in str(caught.value)
    assert "'synthetic'" in str(caught.value)
    assert_nothing_left(target)


def test_other_members_are_never_written(server: Server, target: Path, tmp_path: Path) -> None:
    extra = {
        "../evil.txt": b"x",
        "ml-1m/../../evil.txt": b"x",
        "/evil.txt": b"x",
        "ml-1m/README": b"x",
        "users.dat": b"x",
    }
    server.body = zipped({**extra, **MEMBERS})
    fetch(target, Archive(url=server.url, md5=server.md5), NAMES)
    files = [path.relative_to(target).as_posix() for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(files) == sorted(CONTENT)
    assert contents(target) == CONTENT
    assert list(tmp_path.iterdir()) == [target.parent]


@pytest.mark.parametrize("lacking", CONTENT)
def test_archive_that_lacks_a_file_is_refused(server: Server, target: Path, lacking: str) -> None:
    server.body = zipped({name: content for name, content in MEMBERS.items() if name != f"ml-1m/{lacking}"})
    with pytest.raises(DataError, match="no directory with the files users"):
        fetch(target, Archive(url=server.url, md5=server.md5), NAMES)
    assert_nothing_left(target)


def test_archive_that_unpacks_to_too_much_is_refused(
    server: Server, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_LARGEST", 2**22)
    server.body = zipped({**MEMBERS, "ml-1m/ratings.dat": bytes(2**22 + 1)})
    assert len(server.body) < 2**15
    with pytest.raises(DataError, match=r"ml-1m/ratings\.dat: unpacks to more than 4,194,304 bytes"):
        fetch(target, Archive(url=server.url, md5=server.md5), NAMES)
    assert_nothing_left(target)


def damaged(body: bytes) -> bytes:
    """Return an archive whose first member cannot be unpacked."""
    start = body.index(b"users.dat") + len("users.dat")
    return body[:start] + bytes(255 - byte for byte in body[start : start + 12]) + body[start + 12 :]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: b"no archive",
        lambda body: body[: len(body) // 2],
        damaged,
        lambda body: body.replace(b"\x14\x00\x00\x00\x08\x00", b"\x14\x00\x01\x00\x08\x00"),  # encrypted
        lambda body: body.replace(
            b"\x14\x00\x00\x00\x08\x00", b"\x14\x00\x00\x00\x63\x00"
        ),  # a different compression method
    ],
    ids=["no archive", "half", "damaged", "encrypted", "another method"],
)
def test_archive_that_cannot_be_unpacked_is_refused(
    server: Server, target: Path, spoil: Callable[[bytes], bytes]
) -> None:
    server.body = spoil(zipped(MEMBERS))
    with pytest.raises(DataError, match="cannot be unpacked"):
        fetch(target, Archive(url=server.url, md5=server.md5), NAMES)
    assert_nothing_left(target)


def test_incomplete_directory_is_refused_and_kept(server: Server, target: Path) -> None:
    target.mkdir()
    (target / "users.dat").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"incomplete; expected users\.dat, movies\.dat, ratings\.dat") as caught:
        fetch(target, Archive(url=server.url, md5=server.md5), NAMES)
    assert str(target) in str(caught.value)
    assert contents(target) == {"users.dat": b"mine"}
    assert server.requests == 0
