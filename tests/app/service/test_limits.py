"""Test the limits on hostile clients, over real local connections."""

import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from upath import UPath

from app.service.__main__ import server_of
from app.service.api import create_app
from app.service.keys import Keys
from app.service.limits import BoundedBody, BoundedProtocol, max_body_bytes
from orchestration.runtime.ports import listen
from tests.app.service.conftest import CONFIG, Log, Problem
from tests.waiting import until

LONGEST = max_body_bytes(CONFIG.max_pairs, strings=0)
JSON = {"Content-Type": "application/json"}
PAIR = {"user_id": 2147483647, "movie_id": 2147483647, "year": 2001, "month": 12}
SECONDS = 0.2
POST = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@contextmanager
def served(home: Path, keys: Keys | None = None) -> Iterator[int]:
    """Start the service on a home without tables, with short time limits; return its port."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BoundedProtocol, "head_seconds", SECONDS)
        patch.setattr(BoundedProtocol, "response_seconds", SECONDS)
        app = create_app(UPath(home), None, CONFIG, Log().logger, keys)
        for middleware in app.user_middleware:
            if middleware.cls is BoundedBody:
                middleware.kwargs["seconds"] = SECONDS
        listening = listen("127.0.0.1", 0, "")
        server = server_of(app)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        until(lambda: server.started)
        yield listening.getsockname()[1]
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with served(tmp_path_factory.mktemp("empty")) as found:
        yield found


@pytest.fixture
def connection(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as found:
        yield found


def answer(connection: socket.socket) -> bytes:
    """Return everything received until the server closes the connection."""
    found = b""
    try:
        while part := connection.recv(1 << 16):
            found += part
    except ConnectionResetError:
        pass
    return found


def is_cut_off(connection: socket.socket, parts: Iterable[bytes], pause: float = SECONDS / 10) -> bool:
    """Return whether the server closes the connection before all parts, sent with pauses, have arrived."""
    try:
        for part in parts:
            connection.sendall(part)
            time.sleep(pause)
    except OSError:
        return True
    return False


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTTP/1.1\r\nHost:"], ids=["nothing", "half a head"])
def test_connection_without_a_whole_head_is_closed(sent: bytes, connection: socket.socket) -> None:
    connection.sendall(sent)
    assert answer(connection) == b""


def test_slow_head_is_cut_off(connection: socket.socket) -> None:
    connection.sendall(b"GET /healthz HTTP/1.1\r\n")
    assert is_cut_off(connection, [b"x: 1\r\n"] * 50)


def test_slow_second_head_is_cut_off(connection: socket.socket) -> None:
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200")
    connection.sendall(b"GET /healthz HTTP/1.1\r\n")
    assert answer(connection) == b""


@pytest.mark.parametrize(
    ("head", "answered"),
    [
        (b"GET /healthz?%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (b"x" * 300_000), 0),
        (b"GET /healthz HTTP/1.1\r\nx: %s\r\n\r\n" % (b"x" * 300_000), 0),
        (b"GET /healthz HTTP/1.1\r\n" + b"x: 1\r\n" * 1000 + b"\r\n", 0),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000, BoundedProtocol.pipelined + 1),
    ],
    ids=["path", "header", "headers", "pipeline"],
)
def test_endless_head_is_cut_off(head: bytes, answered: int, connection: socket.socket) -> None:
    if not is_cut_off(connection, [head], 0):
        assert answer(connection).count(b"HTTP/1.1 200") <= answered


def test_slow_body_is_cut_off(connection: socket.socket) -> None:
    connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    is_cut_off(connection, [b"1\r\n[\r\n"] * 12)
    found = answer(connection)
    assert found.startswith(b"HTTP/1.1 408")
    assert b"application/problem+json" in found


def test_chunked_body_is_refused_once_it_is_too_long(connection: socket.socket) -> None:
    connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    connection.sendall((b"1000\r\n" + b" " * 4096 + b"\r\n") * (LONGEST // 4096 + 1))  # the last chunk never comes
    assert answer(connection).startswith(b"HTTP/1.1 413")


def test_endless_body_is_cut_off(connection: socket.socket) -> None:
    connection.sendall(POST + b"Transfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
    assert is_cut_off(connection, [chunk] * 1000, 0)


def test_unread_body_does_not_block_a_connection(connection: socket.socket) -> None:
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert is_cut_off(connection, [b"1\r\n[\r\n"] * 50)


def test_client_that_does_not_read_is_disconnected(port: int) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        connection.sendall(b"GET /static-offline-docs/swagger-ui-bundle.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert is_cut_off(connection, [b"GET /", *[b"x"] * 50], SECONDS / 4)


def test_body_with_its_length_declared_is_refused_too(client: TestClient, problem: Problem) -> None:
    document = problem(client.post("/score", content=b" " * (LONGEST + 1), headers=JSON), 413)
    assert f"more than {LONGEST} bytes" in document["detail"]


def test_largest_batch_is_short_enough(client: TestClient, problem: Problem) -> None:
    import json

    batch = {"model": "autoint", "pairs": [PAIR] * CONFIG.max_pairs}
    assert (
        "unknown user_id"
        in problem(client.post("/score", content=json.dumps(batch, indent=8), headers=JSON), 404)["detail"]
    )


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 3000,
        b'{"model":"autoint","pairs":' + b"[" * 3000 + b"]" * 3000 + b"}",
        b'{"a":' * 1500 + b"1" + b"}" * 1500,
    ],
    ids=["open", "pairs", "objects"],
)
def test_deep_json_is_a_bad_request(body: bytes, client: TestClient) -> None:
    response = client.post("/score", content=body, headers=JSON)
    assert response.status_code in (400, 422)
    assert len(response.content) < 1000


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"autoint","pairs":[' + b",".join([b"{}"] * 20) + b"]}",
        b"{" + b",".join(b'"%d":1' % number for number in range(1000)) + b"}",
        b'{"%s":1}' % (b"x" * 8000),
        b'{"model":"%s","pairs":[]}' % (b"x" * 8000),
        b'{"model":"autoint","pairs":[{"user_id":%s}]}' % (b"9" * 5000),
        b'{"\\ud800":1}',
        b'{"\xff":1}',
    ],
    ids=["pairs", "fields", "field", "model", "number", "half a surrogate pair", "no UTF-8"],
)
def test_response_to_an_invalid_body_is_short(body: bytes, client: TestClient) -> None:
    response = client.post("/score", content=body, headers=JSON)
    assert response.status_code in (400, 404, 422)
    assert len(response.content) < 5000
    if body.count(b"{}") == 20:  # the first invalid pair is enough
        assert {error["location"][:12] for error in response.json()["errors"]} == {"body.pairs.0"}


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200), ("LOCALHOST:8000", 200), ("127.0.0.1:8000", 200), ("[::1]:8000", 200), ("[::1]", 200),
        ("testserver", 200), ("[2001:db8::5]:80", 200),
        ("evil.example", 400), ("localhost.evil.example", 400), ("127.0.0.1.evil.example:8000", 400), ("", 400),
        ("localhost@evil.example", 400), ("[::1].evil.example", 400), ("::1", 400), ("[::2]", 400),
        ("localhost:x", 400),
    ],
)  # fmt: skip
def test_only_the_service_s_own_names_are_answered(
    client: TestClient, problem: Problem, host: str, status: int
) -> None:
    answer = client.get("/healthz", headers={"Host": host})
    assert answer.status_code == status
    if status == 400:
        assert "hosts of serving.yaml" in problem(answer, 400)["detail"]
        assert answer.headers["X-Request-ID"]
