"""Test that bodies are parsed beside other requests, and that elaborate ones are refused unparsed."""

import asyncio
import gc
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from fastapi.testclient import TestClient

from app.service.bodies import refuse_elaborate
from app.service.state import State
from tests.app.service.conftest import CONFIG, Log, Problem, serving
from tests.waiting import until

PAIR = {"user_id": 3, "movie_id": 1, "year": 2001, "month": 5}
PAIRS = 20


@pytest.fixture
def busy(published_home: Path) -> Iterator[tuple[TestClient, threading.Event]]:
    """Start the service with a queue of one; return it and what ends the work in the queue, which a test puts there."""
    release = threading.Event()
    with serving(published_home, CONFIG.model_copy(update={"max_queue": 1})) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        try:
            yield client, release
        finally:
            release.set()


def state_of(client: TestClient) -> State:
    state: State = client.app.state.recommender  # type: ignore[attr-defined]
    return state


def in_thread(work: Any) -> tuple[threading.Thread, list[Any]]:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()), daemon=True)
    thread.start()
    return thread, found


def test_others_are_answered_while_a_body_is_parsed(
    busy: tuple[TestClient, threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, release = busy
    parsing = threading.Event()

    def slow_loads(body: bytes) -> Any:
        parsing.set()
        release.wait(60)
        return json.loads(body)

    monkeypatch.setattr("starlette.requests.json", SimpleNamespace(loads=slow_loads))
    posting, posted = in_thread(lambda: client.post("/score", json={"model": "autoint", "pairs": [PAIR]}))
    assert parsing.wait(60)
    for path in ("/healthz", "/users/7/recommendations"):
        asking, answers = in_thread(lambda path=path: client.get(path).status_code)
        asking.join(10)
        assert answers == [200], path
    assert not posted
    release.set()
    posting.join(60)
    assert posted[0].status_code == 200


def test_full_queue_is_a_503_even_for_an_invalid_body(
    busy: tuple[TestClient, threading.Event], problem: Problem
) -> None:
    client, release = busy
    state_of(client).score_live(release.wait)
    for body in (b"nothing", json.dumps({"model": "autoint", "pairs": [PAIR]}).encode()):
        response = client.post("/score", content=body, headers={"Content-Type": "application/json"})
        assert "wait to be scored live" in problem(response, 503)["detail"]
        assert response.headers["Retry-After"] == "1"
    assert client.get("/healthz").status_code == 200
    release.set()
    until(lambda: client.post("/score", content=b"nothing").status_code == 422)


@pytest.mark.parametrize(
    "body",
    [
        b"[%s]" % b",".join([b"{}"] * 5000),
        b"{%s}" % b",".join(b'"%d":1' % number for number in range(5000)),
        b"[" * 5000,
        b"[%s]" % b",".join([b'""'] * 5000),
        b'["' + rb"\\" + b'",%s]' % b",".join([b"1"] * 5000),  # the second quote is not escaped
        b'["' + rb"\\\"" + b'",%s]' % b",".join([b"1"] * 5000),
        f'["\u2222",{",".join(["1"] * 5000)}]'.encode("utf-16-le"),  # this character has two bytes of a quote
        b"[%s]" % b",".join([b"7" * 4000] * 5),
    ],
    ids=["objects", "keys", "depth", "strings", "backslash", "escapes", "UTF-16", "digits"],
)
def test_elaborate_body_is_refused_unparsed(body: bytes) -> None:
    with pytest.raises(RequestValidationError) as raised:
        refuse_elaborate(body, PAIRS)
    [error] = raised.value.errors()
    assert error["loc"] == ("body",)
    assert "expected at most 20 pairs" in error["msg"]


@pytest.mark.parametrize("user", [2147483647, '"' * 200, "\\" * 200, '\\"' * 100, "[{,:" * 50, "\ud800" * 200])
@pytest.mark.parametrize("indent", [None, 8])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
def test_largest_batch_is_not_elaborate(user: int | str, indent: int | None, encoding: str) -> None:
    batch = {"model": "autoint", "pairs": [{**PAIR, "user_id": user, "movie_id": user}] * PAIRS}
    for is_ascii in (True, False):
        text = json.dumps(batch, indent=indent, ensure_ascii=is_ascii)
        refuse_elaborate(text.encode(encoding, "surrogatepass"), PAIRS)


def test_elaborate_body_is_a_problem(client: TestClient, problem: Problem) -> None:
    body = b'{"model":"autoint","pairs":[%s]}' % b",".join([b"1"] * 4400)
    document = problem(client.post("/score", content=body, headers={"Content-Type": "application/json"}), 422)
    assert [error["location"] for error in document["errors"]] == ["body"]
    assert "expected at most 20 pairs" in document["detail"]


def test_batch_with_many_keys_is_refused_at_once(client: TestClient, problem: Problem) -> None:
    document = problem(client.post("/score", json={str(number): 1 for number in range(21)}), 422)
    assert document["detail"] == "body: Value error, expected the keys model, pairs, got 21 keys"


def test_client_that_leaves_before_the_end_of_its_body_is_no_failure(client: TestClient, log: Log) -> None:
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/score",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"x-request-id", b"left")],
    }

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        pass

    asyncio.run(client.app(scope, receive, send))  # type: ignore[arg-type]
    own = [line for line in log.lines if line.get("request_id") == "left"]
    assert [(line["event"], line["status"]) for line in own] == [("request", 400)]


def test_body_is_described(client: TestClient) -> None:
    described = client.get("/openapi.json").json()["paths"]["/score"]["post"]["requestBody"]
    schema = {"$ref": "#/components/schemas/ScoreRequest"}
    assert described == {"required": True, "content": {"application/json": {"schema": schema}}}


def test_what_stays_is_exempt_from_garbage_collection(client: TestClient) -> None:
    prepared = state_of(client).serving.models["autoint"]
    assert not any(each is prepared for each in gc.get_objects())
