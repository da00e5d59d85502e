"""Test lists for visitors without a history."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fastapi.testclient import TestClient

from app.service.limits import max_visitor_bytes
from app.service.state import State
from app.service.visitors import PATH
from ml.inference.recommend import Recommender
from ml.inference.scorer import Scorer
from ml.inference.visitors import Visitor, VisitorRecommender
from ml.models.bundle import ModelBundle
from ml.published.people import MOST_CHOICES
from tests.app.conftest import MODELS
from tests.app.service.conftest import CONFIG, Log, Problem, serving
from tests.app.service.test_operations import lines_of, metric
from tests.published_home import MOMENT, publish, write_tables
from tests.string_ids import movie_name
from tests.waiting import until

LIKED = [1, 50, 228]
FEATURES = {"gender": "F", "age": 25}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def rule(bundles: dict[str, ModelBundle], tables: dict[str, pd.DataFrame]) -> dict[str, VisitorRecommender]:
    """Return the library's recommender of each model."""
    return {
        name: VisitorRecommender(Recommender(Scorer(bundle), tables["ratings"]), tables["users"], tables["ratings"])
        for name, bundle in bundles.items()
    }


@pytest.fixture(scope="module")
def strings(home_of_strings: Path) -> Iterator[TestClient]:
    with serving(home_of_strings) as found:
        until(lambda: found.get("/readyz").status_code == 200)
        yield found


def post(client: TestClient, **body: Any) -> dict[str, Any]:
    response = client.post(PATH, json=body)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


def items_of(rows: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "rank": row.rank,
            "movie_id": row.movie_id,
            "title": row.title,
            "genres": row.genres.split("|"),
            "score": pytest.approx(row.score, abs=1e-6),
        }
        for row in rows.itertuples()
    ]


def movies_of(document: dict[str, Any]) -> list[Any]:
    return [item["movie_id"] for item in document["items"]]


@pytest.mark.parametrize(
    "told",
    [{"liked": LIKED}, {"features": FEATURES}, {"liked": LIKED, "features": FEATURES}, {"liked": [50, 50, 50]}],
    ids=["liked", "features", "both", "repeated"],
)
@pytest.mark.parametrize("more", [{}, {"k": 25, "year": 2001, "month": 5}], ids=["table's month", "another month"])
@pytest.mark.parametrize("model", MODELS)
def test_list_is_the_librarys(
    model: str, more: dict[str, int], told: dict[str, Any], client: TestClient, rule: dict[str, VisitorRecommender]
) -> None:
    found = post(client, model=model, **told, **more)
    visitor = Visitor(told.get("features", {}), tuple(dict.fromkeys(told.get("liked", ()))))
    moment = (more.get("year", MOMENT[0]), more.get("month", MOMENT[1]))
    expected = rule[model].recommend(visitor, *moment, more.get("k", 10))
    assert found == {
        "model": model, "model_version": MODELS[model], "score_is_chance": model == "autoint",
        "year": moment[0], "month": moment[1], "source": "live", "items": items_of(expected),
    }  # fmt: skip
    assert len(found["items"]) == more.get("k", 10)
    assert not set(movies_of(found)) & set(visitor.liked)


def test_form_is_that_of_users_lists(client: TestClient) -> None:
    of_user = client.get("/users/7/recommendations?model=autoint&k=25").json()
    of_visitor = post(client, model="autoint", liked=LIKED)
    assert of_user.keys() - of_visitor.keys() == {"user_id", "arm"}
    assert not of_visitor.keys() - of_user.keys()
    assert of_user["items"][0].keys() == of_visitor["items"][0].keys()


def test_without_a_model_the_default_answers(client: TestClient) -> None:
    assert post(client, features=FEATURES)["model"] == client.get("/models").json()["default"] == "autoint_mlp"


def test_response_is_not_for_caches(client: TestClient) -> None:
    assert client.post(PATH, json={"liked": LIKED}).headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("body", "location", "message"),
    [
        ({}, "body", "expected at least one of liked and features"),
        ({"liked": [], "features": {}, "k": 3}, "body", "expected at least one of liked and features"),
        ({"liked": 1}, "body.liked", "valid list"),
        ({"liked": ["C-1"]}, "body.liked.0", "valid integer"),
        ({"liked": [1, True]}, "body.liked.1", "valid integer"),
        ({"liked": [1, 1.5]}, "body.liked.1", "valid integer"),
        ({"liked": [-1]}, "body.liked.0", "greater than or equal to 0"),
        ({"liked": [2**31]}, "body.liked.0", "less than or equal to 2147483647"),
        ({"liked": [1] * 101}, "body.liked", "at most 100 items"),
        ({"features": {"gender": "X"}}, "body.features.gender", "expected one of 'F', 'M', found 'X'"),
        ({"features": {"age": "25"}}, "body.features.age", "expected one of 1, 18, 25"),
        ({"features": {"age": True}}, "body.features.age", "expected an integer or a string"),
        ({"features": {"age": None}}, "body.features.age", "expected an integer or a string"),
        ({"features": {"age": 2**70}}, "body.features.age", "expected an integer or a string"),
        ({"features": {"country": "NZ"}}, "body.features.country", "expected one of gender, age, occupation"),
        ({"features": {"zip": "48067"}}, "body.features.zip", "expected one of gender, age, occupation"),
        ({"features": {"user_id": 7}}, "body.features.user_id", "expected one of gender, age, occupation"),
        ({"features": {str(n): n for n in range(21)}}, "body.features", "expected at most 20 features, got 21"),
        ({"features": {"gender": "F" * 201}}, "body.features.gender", "expected an integer or a string"),
        ({"features": {"gender": 1.5}}, "body.features.gender", "expected an integer or a string"),
        ({"features": ["F"]}, "body.features", "valid dictionary"),
        ({"liked": [1], "k": 0}, "body.k", "greater than or equal to 1"),
        ({"liked": [1], "k": 51}, "body.k", "less than or equal to 50"),
        ({"liked": [1], "k": "3"}, "body.k", "valid integer"),
        ({"liked": [1], "year": 2001}, "body", "expected year and month together"),
        ({"liked": [1], "year": 2001, "month": 13}, "body.month", "less than or equal to 12"),
        ({"liked": [1], "modle": "autoint"}, "body.modle", "not permitted"),
        ([1], "body", "valid dictionary"),
    ],
)  # fmt: skip
def test_bad_request_is_refused_with_the_field(
    body: Any, location: str, message: str, client: TestClient, problem: Problem
) -> None:
    document = problem(client.post(PATH, json=body), 422)
    [told] = [error["message"] for error in document["errors"] if error["location"] == location]
    assert message in told
    assert document["instance"] == PATH


def test_features_with_many_values_cannot_be_told(tables: dict[str, pd.DataFrame]) -> None:
    assert tables["users"]["zip"].nunique() > MOST_CHOICES  # otherwise the case above tests nothing


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"liked": [1, 987654]}, "liked: unknown movie_id 987654; the model knows 200 from"),
        ({"liked": [1], "model": "als"}, "no model 'als' of small is published; there are autoint, autoint_mlp"),
        ({"liked": [1], "year": 1999, "month": 1}, "unknown rating_year 1999; the model was trained on"),
    ],
)
def test_unknown_movie_model_and_month_are_not_found(
    body: dict[str, Any], detail: str, client: TestClient, problem: Problem
) -> None:
    assert detail in problem(client.post(PATH, json=body), 404)["detail"]


@pytest.mark.parametrize(
    "body",
    [b"", b"nothing", b'{"liked": [1]', b'{"liked": [1], "k": NaN}', b'{"liked":' * 3000, b"[" * 40_000, b'{"\xff":1}'],
    ids=["empty", "text", "open", "NaN", "deep objects", "deep lists", "no UTF-8"],
)
def test_invalid_json_is_a_short_problem(body: bytes, client: TestClient) -> None:
    response = client.post(PATH, content=body, headers=JSON)
    assert response.status_code in (400, 422)
    assert response.headers["content-type"] == "application/problem+json"
    assert len(response.content) < 1000


@pytest.mark.parametrize("field", ["liked", "features", ""])
def test_long_invalid_body_gets_a_short_response(field: str, client: TestClient, problem: Problem) -> None:
    wrong: Any = [[] for _ in range(9000)] if field == "liked" else {str(number): [] for number in range(4000)}
    body = json.dumps({field: wrong} if field else wrong, separators=(",", ":"))
    response = client.post(PATH, content=body, headers=JSON)
    assert len(problem(response, 422)["errors"]) == 1
    assert len(response.content) < 1000


def test_body_is_bounded(client: TestClient, problem: Problem) -> None:
    longest = max_visitor_bytes(strings=0)
    assert problem(client.post(PATH, content=b" " * (longest + 1), headers=JSON), 413)
    features = {"\N{GRINNING FACE}" * 199 + str(number): "\N{GRINNING FACE}" * 200 for number in range(10)}
    body = json.dumps({"liked": [2**31 - 1] * 100, "features": features}, ensure_ascii=False, indent=8).encode()
    assert "body.features" in problem(client.post(PATH, content=body, headers=JSON), 422)["errors"][0]["location"]


def test_longest_strings_are_short_enough(strings: TestClient, problem: Problem) -> None:
    liked = [f"{number:03d}" + "\N{GRINNING FACE}" * 197 for number in range(100)]
    body = json.dumps({"liked": liked}, ensure_ascii=False).encode()
    assert len(body) > max_visitor_bytes(strings=0)
    assert "liked: unknown movie_id" in problem(strings.post(PATH, content=body, headers=JSON), 404)["detail"]
    assert problem(strings.post(PATH, content=b" " * (max_visitor_bytes(strings=1) + 1), headers=JSON), 413)


def test_string_ids_get_the_same_list(client: TestClient, strings: TestClient) -> None:
    expected = post(client, liked=LIKED, features=FEATURES)
    found = post(strings, liked=[movie_name(movie) for movie in LIKED], features=FEATURES)
    named = [{**item, "movie_id": movie_name(item["movie_id"])} for item in expected["items"]]
    assert found == {**expected, "items": named}


@pytest.mark.parametrize("liked", [[1], [""], ["x" * 201], ["\ud800"]], ids=["integer", "empty", "long", "surrogate"])
def test_strings_are_strict(liked: list[Any], strings: TestClient, problem: Problem) -> None:
    response = strings.post(PATH, content=json.dumps({"liked": liked}), headers=JSON)
    assert [error["location"] for error in problem(response, 422)["errors"]] == ["body.liked.0"]


def test_data_set_without_features_of_users_takes_likes(
    own_home: Path, tables: dict[str, pd.DataFrame], client: TestClient, problem: Problem
) -> None:
    write_tables(own_home, {"users": tables["users"][["user_id"]]})
    with serving(own_home) as bare:
        until(lambda: bare.get("/readyz").status_code == 200)
        assert post(bare, liked=LIKED) == post(client, liked=LIKED)
        document = problem(bare.post(PATH, json={"liked": LIKED, "features": FEATURES}), 422)
        assert document["errors"][0] == {
            "location": "body.features.gender",
            "message": "users of this data set have none; expected liked, found 'gender'",
        }


def test_value_that_only_users_without_a_model_have_is_refused(
    own_home: Path, tables: dict[str, pd.DataFrame], problem: Problem
) -> None:
    new = tables["users"].iloc[[0]].assign(user_id=1000, gender="X")
    write_tables(own_home, {"users": pd.concat([tables["users"], new])})
    with serving(own_home) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        response = client.post(PATH, json={"features": {"gender": "X"}})
        assert problem(response, 422)["detail"] == "gender 'X'; expected one of F, M"


def test_before_tables_are_loaded_it_must_retry_later(tmp_path: Path, problem: Problem) -> None:
    with serving(tmp_path) as client:
        until(lambda: "make run" in client.get("/readyz").text)
        response = client.post(PATH, json={"liked": LIKED})
        assert "run the pipeline first (make run)" in problem(response, 503)["detail"]
        assert int(response.headers["Retry-After"]) > 0


def test_full_queue_must_retry_later(published_home: Path, problem: Problem) -> None:
    with serving(published_home, CONFIG.model_copy(update={"max_queue": 1})) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        release = threading.Event()
        state_of(client).score_live(release.wait)
        try:
            response = client.post(PATH, json={"liked": LIKED})
            assert "wait to be scored live" in problem(response, 503)["detail"]
            assert response.headers["Retry-After"] == "1"
        finally:
            release.set()
        until(lambda: client.post(PATH, json={"liked": LIKED}).status_code == 200)


def test_others_are_answered_while_a_visitor_is_scored(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    scoring, release, found = threading.Event(), threading.Event(), []
    score = VisitorRecommender.recommend

    def slow(*arguments: Any) -> pd.DataFrame:
        scoring.set()
        release.wait(60)
        return score(*arguments)

    monkeypatch.setattr(VisitorRecommender, "recommend", slow)
    asking = threading.Thread(target=lambda: found.append(post(client, liked=LIKED)), daemon=True)
    asking.start()
    try:
        assert scoring.wait(60)
        assert client.get("/healthz").status_code == 200
        assert client.get("/users/7/recommendations").status_code == 200
        assert not found
    finally:
        release.set()
    asking.join(60)
    assert len(found[0]["items"]) == 10


def test_a_new_champion_answers_the_next_request(
    own_home: Path,
    bundles: dict[str, ModelBundle],
    tables: dict[str, pd.DataFrame],
    rule: dict[str, VisitorRecommender],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    visitor = Visitor(FEATURES, tuple(LIKED))
    before, after = (items_of(rule[name].recommend(visitor, *MOMENT)) for name in ("autoint", "autoint_mlp"))
    assert before != after
    body = {"model": "autoint", "liked": LIKED, "features": FEATURES}
    with serving(own_home) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        first = post(client, **body)
        assert (first["model_version"], first["items"]) == ("3", before)

        def published_meanwhile(*arguments: Any) -> pd.DataFrame:
            monkeypatch.undo()
            publish(own_home, "autoint", "4", bundles["autoint_mlp"], tables["ratings"])
            until(lambda: state_of(client).serving.snapshot.model("autoint").version == "4")
            return VisitorRecommender.recommend(*arguments)

        monkeypatch.setattr(VisitorRecommender, "recommend", published_meanwhile)
        second = post(client, **body)  # the version that it began with
        assert (second["model_version"], second["items"]) == ("3", before)
        third = post(client, **body)
        assert (third["model_version"], third["items"]) == ("4", after)


def test_log_and_metrics_have_the_model_but_nothing_of_the_visitor(client: TestClient, log: Log) -> None:
    before = metric(client, "recommender_requests_total", route=PATH, status="200")
    told = {"liked": [228], "features": {"gender": "F", "occupation": 11}}
    client.post(PATH, json={"model": "autoint", **told}, headers={"X-Request-ID": "visit"})
    [line] = [line for line in log.lines if line.get("request_id") == "visit"]
    expected = {"route": PATH, "path": PATH, "status": 200, "model": "autoint", "model_version": "3", "k": 10}
    assert expected.items() <= line.items()
    about = {"event", "log_level", "request_id", "method", "source", "ms"}
    assert line.keys() == expected.keys() | about
    assert metric(client, "recommender_requests_total", route=PATH, status="200") == before + 1


def test_the_log_of_a_bug_has_nothing_of_the_visitor(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: VisitorRecommender, visitor: Visitor, *_: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(VisitorRecommender, "recommend", fail)

    def write(logger: Any) -> None:
        with pytest.MonkeyPatch.context() as patch:
            for middleware in client.app.user_middleware:  # type: ignore[attr-defined]
                if "logger" in middleware.kwargs:
                    patch.setitem(middleware.kwargs, "logger", logger)
            patch.setattr(client.app, "middleware_stack", None)  # built again, with this logger
            response = client.post(PATH, json={"liked": [228], "features": {"gender": "F", "occupation": 11}})
            assert response.status_code == 500

    written = lines_of(write).decode()
    [failed] = [line for line in map(json.loads, written.splitlines()) if line["event"] == "failed"]
    assert failed["exception"][0]["exc_value"] == "a bug"
    assert not any(frame.get("locals") for frame in failed["exception"][0]["frames"])
    assert "gender" not in written


def state_of(client: TestClient) -> State:
    state: State = client.app.state.recommender  # type: ignore[attr-defined]
    return state
