"""Test that the service answers the same for a data set with strings as ids, taken literally."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pandas as pd
import pytest
from fastapi.testclient import TestClient
from upath import UPath

from app.service.__main__ import server_of
from app.service.api import create_app
from app.service.limits import max_body_bytes
from ml.models.bundle import ModelBundle
from orchestration.runtime.ports import listen
from tests.app.conftest import MODELS
from tests.app.service.conftest import CONFIG, Log, Problem, serving
from tests.published_home import MOMENT, publish, write_tables
from tests.string_ids import movie_name, user_name, with_string_vocabulary, with_strings
from tests.waiting import until

USER = 7
PAIR = {"user_id": user_name(USER), "movie_id": movie_name(1), "year": MOMENT[0], "month": MOMENT[1]}


@pytest.fixture(scope="module")
def own_log() -> Log:
    return Log()


@pytest.fixture(scope="module")
def strings(home_of_strings: Path, own_log: Log) -> Iterator[TestClient]:
    with serving(home_of_strings, log=own_log) as found:
        until(lambda: found.get("/readyz").status_code == 200)
        yield found


def path_of(user: int | str) -> str:
    return f"/users/{quote(str(user), safe='')}/recommendations"


def renamed(document: dict[str, Any]) -> dict[str, Any]:
    items = [{**item, "movie_id": movie_name(item["movie_id"])} for item in document["items"]]
    return {**document, "user_id": user_name(document["user_id"]), "items": items}


@pytest.mark.parametrize("query", ["", "&k=3", "&k=25", "&year=2001&month=5"])
@pytest.mark.parametrize("model", MODELS)
def test_lists_are_the_same(model: str, query: str, client: TestClient, strings: TestClient) -> None:
    expected = client.get(f"{path_of(USER)}?model={model}{query}")
    found = strings.get(f"{path_of(user_name(USER))}?model={model}{query}")
    assert (expected.status_code, found.status_code) == (200, 200)
    assert found.json() == renamed(expected.json())


def test_user_has_an_arm_and_is_logged_under_the_route(strings: TestClient, own_log: Log) -> None:
    found = strings.get(path_of(user_name(USER))).json()
    assert found["arm"]["model"] == found["model"]
    logged = own_log.of("request")[-1]
    assert (logged["user_id"], logged["route"]) == (user_name(USER), "/users/{user_id}/recommendations")


def test_slashes_need_no_encoding(strings: TestClient) -> None:
    assert strings.get(f"/users/{quote(user_name(USER), safe='/')}/recommendations").status_code == 200


def test_scores_are_the_same(client: TestClient, strings: TestClient, bundles: dict[str, ModelBundle]) -> None:
    movies = bundles["autoint"].movies["movie_id"].tolist()[:10]
    pairs = [{"user_id": USER, "movie_id": movie, "year": 2001, "month": 5} for movie in movies]
    named = [{**p, "user_id": user_name(USER), "movie_id": movie_name(p["movie_id"])} for p in pairs]
    expected, found = (
        app.post("/score", json={"model": "autoint", "pairs": own}) for app, own in ((client, pairs), (strings, named))
    )
    assert (expected.status_code, found.status_code) == (200, 200)
    assert found.json() == expected.json()


def test_a_percent_sign_is_literal(home_of_strings: Path) -> None:
    app = create_app(UPath(home_of_strings), None, CONFIG, Log().logger)
    listening = listen("127.0.0.1", 0, "")
    server = server_of(app)
    thread = threading.Thread(target=server.run, args=([listening],))  # the test client would decode twice
    thread.start()
    try:
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        until(lambda: server.started and httpx.get(f"{address}/readyz").status_code == 200)
        assert httpx.get(f"{address}{path_of(user_name(USER))}").json()["user_id"] == user_name(USER)
        assert "unknown user_id '50%2Foff%'" in httpx.get(f"{address}{path_of('50%2Foff%')}").json()["detail"]
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("user", ["7", "C-0017", "a/recommendations", "한글", "m/1\x7f"])
def test_unknown_user_is_named(user: str, strings: TestClient, problem: Problem) -> None:
    document = problem(strings.get(path_of(user)), 404)
    known = f"there are lists of 300 users from {user_name(1)!r} to {user_name(300)!r}"
    assert document["detail"] == f"unknown user_id {user!r}; {known}"


@pytest.mark.parametrize("user", ["", "x" * 201], ids=["empty", "too long"])
def test_text_of_a_wrong_length_is_refused(user: str, strings: TestClient, problem: Problem) -> None:
    document = problem(strings.get(path_of(user)), 422)
    assert [error["location"] for error in document["errors"]] == ["path.user_id"]
    assert "String should have at " in document["detail"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"user_id": 7}, "body.pairs.0.user_id: Input should be a valid string"),
        ({"movie_id": 7}, "body.pairs.0.movie_id: Input should be a valid string"),
        ({"movie_id": None}, "body.pairs.0.movie_id: Input should be a valid string"),
        ({"movie_id": ""}, "body.pairs.0.movie_id: String should have at least 1 character"),
    ],
)
def test_another_type_is_refused(change: dict[str, Any], expected: str, strings: TestClient, problem: Problem) -> None:
    response = strings.post("/score", json={"model": "autoint", "pairs": [{**PAIR, **change}]})
    assert problem(response, 422)["detail"] == expected


def test_half_a_surrogate_pair_is_refused(strings: TestClient, problem: Problem) -> None:
    body = b'{"model":"autoint","pairs":[{"user_id":"\\ud800","movie_id":"x","year":2001,"month":5}]}'
    document = problem(strings.post("/score", content=body, headers={"Content-Type": "application/json"}), 422)
    assert document["errors"][0]["location"] == "body.pairs.0.user_id"


@pytest.mark.parametrize("user", ["x", "", "7/8", "-1", "2147483648", "7.5"])
def test_integers_stay_strict(user: str, client: TestClient, problem: Problem) -> None:
    document = problem(client.get(path_of(user)), 422)
    assert [error["location"] for error in document["errors"]] == ["path.user_id"]


def test_integer_pairs_stay_strict(client: TestClient, problem: Problem) -> None:
    body = {"model": "autoint", "pairs": [{**PAIR, "user_id": 7, "movie_id": "C-1"}]}
    expected = "body.pairs.0.movie_id: Input should be a valid integer"
    assert problem(client.post("/score", json=body), 422)["detail"] == expected


def test_largest_batch_of_strings_is_short_enough(strings: TestClient, problem: Problem) -> None:
    pair = {**PAIR, "user_id": "\N{GRINNING FACE}" * 200, "movie_id": "\N{GRINNING FACE}" * 200}
    body = json.dumps({"model": "autoint", "pairs": [pair] * CONFIG.max_pairs}, ensure_ascii=False)
    assert len(body.encode()) > max_body_bytes(CONFIG.max_pairs, strings=1)
    response = strings.post("/score", content=body.encode(), headers={"Content-Type": "application/json"})
    assert "unknown user_id" in problem(response, 404)["detail"]
    longer = strings.post("/score", content=b" " * (max_body_bytes(CONFIG.max_pairs, strings=2) + 1))
    assert problem(longer, 413)


@pytest.mark.parametrize("column", ["user_id", "movie_id"])
def test_one_side_can_be_strings(
    column: str,
    client: TestClient,
    tables: dict[str, pd.DataFrame],
    bundles: dict[str, ModelBundle],
    tmp_path: Path,
) -> None:
    named = {name: with_strings(table, [column]) for name, table in tables.items()}
    write_tables(tmp_path, named)
    for name, version in MODELS.items():
        publish(tmp_path, name, version, with_string_vocabulary(bundles[name], [column]), named["ratings"])
    user = user_name(USER) if column == "user_id" else USER
    expected = client.get(f"{path_of(USER)}?model=autoint").json()["items"]
    with serving(tmp_path) as mixed:
        until(lambda: mixed.get("/readyz").status_code == 200)
        found = mixed.get(f"{path_of(user)}?model=autoint").json()
    assert found["user_id"] == user
    movies = [item["movie_id"] for item in expected]
    assert [item["movie_id"] for item in found["items"]] == [
        movie_name(movie) if column == "movie_id" else movie for movie in movies
    ]


def test_description_says_integer_or_string(strings: TestClient) -> None:
    description = strings.get("/openapi.json").json()
    [parameter] = [
        each
        for each in description["paths"]["/users/{user_id}/recommendations"]["get"]["parameters"]
        if each["in"] == "path"
    ]
    pair, item = (description["components"]["schemas"][name]["properties"] for name in ("Pair", "Item"))
    for own in (parameter["schema"], pair["user_id"], pair["movie_id"]):
        assert own["anyOf"] == [
            {"type": "integer", "minimum": 0, "maximum": 2147483647},
            {"type": "string", "minLength": 1, "maxLength": 200},
        ]
    assert [each["type"] for each in item["movie_id"]["anyOf"]] == ["integer", "string"]
