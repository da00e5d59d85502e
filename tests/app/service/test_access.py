"""Test who gets in where the service asks for API keys, and what an unknown client can make it do."""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.service.access import Buckets
from app.service.config import Rate
from app.service.keys import Keys
from tests.app.service.conftest import CONFIG, Log, Problem, serving
from tests.app.service.test_keys import APP, SHOP
from tests.app.service.test_limits import answer, served
from tests.app.service.test_operations import metric
from tests.waiting import until

AS_SHOP, AS_APP = {"Authorization": f"Bearer {SHOP}"}, {"Authorization": f"Bearer {APP}"}
PATHS = ["/users/7/recommendations", "/models", "/metrics", "/docs", "/openapi.json", "/", "/nothing", "/healthz/"]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"shop: {SHOP}\napp: {APP}\n")
    return Keys(path)


@pytest.fixture(scope="module")
def key_log() -> Log:
    return Log()


@pytest.fixture(scope="module")
def closed(published_home: Path, keys: Keys, key_log: Log) -> Iterator[TestClient]:
    """Start the service with keys and wait until it is ready."""
    with serving(published_home, log=key_log, keys=keys) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        yield client


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "header",
    [
        None, "", "Bearer", "Bearer ", f"Basic {SHOP}", SHOP, f"Bearer {SHOP[:-1]}", f"Bearer {SHOP}0", "Bearer shop",
        f"Bearer {SHOP} {APP}", f"Bearer\t{SHOP}", f"Bearer {'x' * 5000}", "Bearer \xff",
    ],
)  # fmt: skip
def test_request_without_a_valid_key_is_refused(
    path: str, header: str | None, closed: TestClient, problem: Problem
) -> None:
    headers = {} if header is None else {"Authorization": header.encode("latin-1")}
    response = closed.get(path, headers=headers, follow_redirects=False)
    document = problem(response, 401)
    assert "Authorization: Bearer <key>" in document["detail"]
    challenge = response.headers["WWW-Authenticate"]
    assert challenge.startswith('Bearer realm="')
    assert ('error="invalid_token"' in challenge) == (header is not None)
    assert SHOP not in response.text


def test_two_keys_at_once_are_refused(closed: TestClient) -> None:
    headers = [("Authorization", f"Bearer {SHOP}"), ("Authorization", f"Bearer {APP}")]
    assert closed.get("/models", headers=headers).status_code == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
def test_each_key_opens_everything(scheme: str, closed: TestClient) -> None:
    for key in (SHOP, APP):
        headers = {"Authorization": f"{scheme} {key}"}
        assert closed.get("/users/7/recommendations", headers=headers).json()["items"]
        assert closed.get("/metrics", headers=headers).status_code == 200
        assert closed.get("/docs", headers=headers).status_code == 200


def test_probes_need_no_key_and_tell_strangers_little(closed: TestClient) -> None:
    assert closed.get("/healthz").json() == {"status": "ok"}
    stranger = closed.get("/readyz").json()
    assert stranger == {"status": "ready", "dataset": None, "versions": None, "last_refresh_error": None}
    assert closed.get("/readyz", headers=AS_SHOP).json()["versions"] == {"autoint": "3", "autoint_mlp": "1"}


def test_probe_of_a_service_that_is_not_ready_hides_why_from_strangers(
    tmp_path: Path, keys: Keys, problem: Problem
) -> None:
    with serving(tmp_path / "empty", keys=keys) as client:
        until(lambda: "make run" in client.get("/readyz", headers=AS_SHOP).text)
        assert problem(client.get("/readyz"), 503)["detail"] == "not ready; the log says why"


def test_name_of_the_key_is_logged_and_counted_and_no_key_is(closed: TestClient, key_log: Log) -> None:
    before = metric_of(closed, "recommender_key_requests_total", key="app", status="200")
    closed.get("/users/7/recommendations", headers=AS_APP)
    assert key_log.of("request")[-1]["key"] == "app"
    closed.get("/users/7/recommendations", headers={"Authorization": f"Bearer {APP[::-1]}"})
    assert "key" not in key_log.of("request")[-1]
    assert metric_of(closed, "recommender_key_requests_total", key="app", status="200") == before + 1
    assert metric_of(closed, "recommender_requests_total", status="401") >= 1
    everything = str(key_log.lines) + closed.get("/metrics", headers=AS_SHOP).text
    assert all(secret not in everything for secret in (SHOP, APP, APP[::-1]))


def metric_of(client: TestClient, name: str, **labels: str) -> float:
    client.headers.update(AS_SHOP)
    try:
        return metric(client, name, **labels)
    finally:
        del client.headers["Authorization"]


def test_documentation_can_be_opened(tmp_path: Path, keys: Keys) -> None:
    config = CONFIG.model_copy(update={"open_docs": True})
    with serving(tmp_path, config, keys=keys) as client:
        page = client.get("/")
        assert page.url.path == "/docs"
        for address in re.findall(r"""(?:src|href)=["'](/[^"']+)""", page.text):
            assert client.get(address).status_code == 200, address
        assert client.get("/openapi.json").status_code == 200
        for path in ("/models", "/users/1/recommendations", "/metrics", "/docs/x", "/static-offline-docs/../models"):
            assert client.get(path).status_code == 401, path


def test_description_asks_for_the_key_and_only_where_the_service_does(closed: TestClient, client: TestClient) -> None:
    found = closed.get("/openapi.json", headers=AS_SHOP).json()
    [(name, scheme)] = found["components"]["securitySchemes"].items()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    assert found["security"] == [{name: []}]
    assert found["paths"]["/healthz"]["get"]["security"] == []
    assert {"401", "429"} <= set(found["paths"]["/score"]["post"]["responses"])
    plain = client.get("/openapi.json").json()
    assert "security" not in plain
    assert "securitySchemes" not in plain["components"]


def test_too_many_requests_of_one_name_must_wait(tmp_path: Path, keys: Keys, problem: Problem) -> None:
    config = CONFIG.model_copy(update={"rate": Rate(per_second=0.1, burst=3)})
    with serving(tmp_path, config, keys=keys) as client:
        statuses = [client.get("/nothing", headers=AS_SHOP).status_code for _ in range(3)]
        assert statuses == [404] * 3
        refused = client.get("/nothing", headers=AS_SHOP)
        assert "the key of shop" in problem(refused, 429)["detail"]
        assert 8 <= int(refused.headers["Retry-After"]) <= 10
        assert client.get("/nothing", headers=AS_APP).status_code == 404
        assert client.get("/readyz", headers=AS_SHOP).status_code == 503  # asked by who watches the service


def test_rate_can_be_unlimited(tmp_path: Path, keys: Keys) -> None:
    with serving(tmp_path, CONFIG.model_copy(update={"rate": None}), keys=keys) as client:
        assert {client.get("/nothing", headers=AS_SHOP).status_code for _ in range(50)} == {404}


def test_bucket_empties_and_fills_again() -> None:
    now = [1e6]
    buckets = Buckets(Rate(per_second=2, burst=4), lambda: now[0])
    assert [buckets.take("a") for _ in range(6)] == [0, 0, 0, 0, 1, 1]
    now[0] += 0.5
    assert [buckets.take("a") for _ in range(2)] == [0, 1]
    now[0] += 1
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 1]
    now[0] += 1000
    assert [buckets.take("a") for _ in range(5)] == [0, 0, 0, 0, 1]
    taken = 0
    for _ in range(1000):  # asked ten times as often as allowed
        now[0] += 0.05
        taken += buckets.take("a") == 0
    assert taken == 100


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, keys: Keys) -> Iterator[int]:
    with served(tmp_path_factory.mktemp("empty"), keys=keys) as found:
        yield found


HEAD = b"POST /score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


@pytest.mark.parametrize(
    "length",
    [
        b"Content-Length: 1000000\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\nContent-Length: 9\r\n",
    ],
)
def test_body_of_an_unknown_client_is_not_waited_for(length: bytes, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(HEAD + length + b"\r\n")
        found = answer(connection)  # returns once the server has closed the connection
    assert found.startswith(b"HTTP/1.1 401")
    assert b"100 Continue" not in found


def test_body_with_a_key_is_still_limited(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(HEAD + b"Authorization: Bearer %s\r\nContent-Length: 1000000\r\n\r\n" % SHOP.encode())
        connection.sendall(b" " * 1_000_000)
        assert answer(connection).startswith(b"HTTP/1.1 413")


def test_connection_without_a_body_stays_open_after_a_refusal(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for key, status in ((APP[::-1], b"401"), (APP, b"503")):
            connection.sendall(
                b"GET /models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n\r\n" % key.encode()
            )
            assert connection.recv(1 << 16).startswith(b"HTTP/1.1 " + status)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/users/7/recommendations", 200), ("/users/0/recommendations", 404), ("/nothing", 404), ("/metrics", 200),
     ("/users/7/recommendations?k=0", 422), ("/healthz", 200)],
)  # fmt: skip
def test_every_response_has_security_headers(path: str, status: int, client: TestClient) -> None:
    found = client.get(path)
    assert found.status_code == status
    protects(found)
    assert found.headers["Cache-Control"] == "no-store"


def test_refusals_and_files_have_security_headers_too(closed: TestClient, client: TestClient) -> None:
    protects(closed.get("/models"))
    protects(client.get("/models", headers={"Host": "evil.example"}))
    script = client.get("/static-offline-docs/swagger-ui-bundle.js")
    protects(script)
    assert "Cache-Control" not in script.headers
    assert "script-src 'self' 'unsafe-inline'" in client.get("/docs").headers["Content-Security-Policy"]


def protects(response: Any) -> None:
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in response.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
