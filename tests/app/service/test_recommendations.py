import hashlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fastapi.testclient import TestClient
from scipy.stats import binom

from app.service.arms import arm_of, place_of
from ml.inference.recommend import Recommender
from ml.inference.scorer import Scorer
from ml.models.bundle import ModelBundle
from tests.app.conftest import MODELS
from tests.app.service.conftest import CONFIG, Log, Problem
from tests.published_home import MOMENT, table_path


def get(client: TestClient, user: int, **query: Any) -> dict[str, Any]:
    response = client.get(f"/users/{user}/recommendations", params=query)
    assert response.status_code == 200, response.text
    document: dict[str, Any] = response.json()
    return document


def movies_of(document: dict[str, Any]) -> list[int]:
    return [item["movie_id"] for item in document["items"]]


@pytest.mark.parametrize("model", MODELS)
def test_list_equals_the_table(model: str, client: TestClient, published_home: Path) -> None:
    table = pd.read_parquet(table_path(published_home, model))
    expected = table[table["user_id"] == 7].sort_values("rank")
    found = get(client, 7, model=model)
    assert found["items"] == [
        {
            "rank": row.rank,
            "movie_id": row.movie_id,
            "title": row.title,
            "genres": row.genres.split("|"),
            "score": pytest.approx(row.score, abs=1e-6),
        }
        for row in expected.itertuples()
    ]
    about = {name: found[name] for name in ("user_id", "model", "model_version", "year", "month", "source", "arm")}
    assert about == {
        "user_id": 7, "model": model, "model_version": MODELS[model], "year": MOMENT[0], "month": MOMENT[1],
        "source": "table", "arm": None,
    }  # fmt: skip
    assert found["score_is_chance"] is (model == "autoint")


@pytest.mark.parametrize("k", [1, 3, 10])
def test_shorter_list_is_the_start_of_the_table(k: int, client: TestClient) -> None:
    assert movies_of(get(client, 7, model="autoint", k=k)) == movies_of(get(client, 7, model="autoint"))[:k]


@pytest.mark.parametrize("query", [{"k": 25}, {"year": 2001, "month": 5}], ids=["longer", "another month"])
def test_lists_missing_from_the_table_are_scored_live(
    query: dict[str, int], client: TestClient, bundles: dict[str, ModelBundle], tables: dict[str, pd.DataFrame]
) -> None:
    found = get(client, 7, model="autoint", **query)
    moment = (query.get("year", MOMENT[0]), query.get("month", MOMENT[1]))
    expected = Recommender(Scorer(bundles["autoint"]), tables["ratings"]).recommend(7, *moment, query.get("k", 10))
    assert found["source"] == "live"
    assert (found["year"], found["month"]) == moment
    assert movies_of(found) == expected["movie_id"].tolist()
    assert [item["score"] for item in found["items"]] == pytest.approx(expected["score"].tolist(), abs=1e-6)


def test_the_tables_month_by_name_is_the_table(client: TestClient) -> None:
    assert get(client, 7, model="autoint", year=MOMENT[0], month=MOMENT[1])["source"] == "table"


def test_user_without_a_model_gets_the_one_of_their_arm(client: TestClient, log: Log) -> None:
    place = int.from_bytes(hashlib.sha256(b"test:7").digest()[:8], "big") / 2**64
    expected = "autoint" if place < 0.25 else "autoint_mlp"
    found = get(client, 7)
    assert found["arm"] == {"experiment": "test", "model": expected}
    assert found["model"] == expected
    assert (log.of("request")[-1]["arm"], log.of("request")[-1]["experiment"]) == (expected, "test")


def test_arms_are_by_the_stated_hash() -> None:
    # echo -n like-or-find:42 | sha256sum
    assert place_of("like-or-find", 42) == 0x0BDF82A39AE65E46 / 2**64


def test_arms_have_their_shares_and_another_experiment_reassigns_users() -> None:
    users = range(1, 5001)
    first = [arm_of(CONFIG.experiment, user).model == "autoint" for user in users]
    low, high = binom.interval(0.9999, len(first), 0.25)
    assert low <= sum(first) <= high
    other = CONFIG.experiment.model_copy(update={"name": "other"})
    both = sum(a and arm_of(other, user).model == "autoint" for a, user in zip(first, users, strict=True))
    low, high = binom.interval(0.9999, len(first), 0.0625)
    assert low <= both <= high


def test_unknown_user_model_and_month_are_not_found(client: TestClient, problem: Problem) -> None:
    for path, detail in (
        ("/users/99999/recommendations", "unknown user_id 99999; there are lists of"),
        ("/users/7/recommendations?model=als", "no model 'als' of small is published; there are autoint, autoint_mlp"),
        ("/users/7/recommendations?year=1999&month=1", "unknown rating_year 1999"),
    ):
        document = problem(client.get(path), 404)
        assert detail in document["detail"]
        assert document["instance"] == path.partition("?")[0]


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/users/x/recommendations", "path.user_id"),
        ("/users/-1/recommendations", "path.user_id"),
        ("/users/2147483648/recommendations", "path.user_id"),
        ("/users/7/recommendations?k=0", "query.k"),
        ("/users/7/recommendations?k=51", "query.k"),
        ("/users/7/recommendations?year=2001", "query"),
        ("/users/7/recommendations?year=2001&month=13", "query.month"),
        ("/users/7/recommendations?modle=autoint", "query.modle"),
        *((f"/users/{given}/recommendations", "path.user_id") for given in ("1_0", "+3", "%203", "3.0", "03", "true")),
        *((f"/users/7/recommendations?k={given}", "query.k") for given in ("1_0", "%2B3", "3.0", "03", "true")),
        ("/users/7/recommendations?year=%2B2001&month=1", "query.year"),
        ("/users/7/recommendations?year=2001&month=1_0", "query.month"),
    ],
)
def test_bad_request_is_refused_with_the_field(path: str, location: str, client: TestClient, problem: Problem) -> None:
    document = problem(client.get(path), 422)
    assert location in [error["location"] for error in document["errors"]]
    assert location in document["detail"]


@pytest.mark.parametrize("given", ["1_0", "+3", " 3 ", "3.0", "03", "3", True, 3.5])
@pytest.mark.parametrize("name", ["user_id", "movie_id", "year", "month"])
def test_numbers_of_a_pair_are_integers(name: str, given: object, client: TestClient, problem: Problem) -> None:
    pair = {"user_id": 7, "movie_id": 1, "year": 2001, "month": 1, name: given}
    document = problem(client.post("/score", json={"model": "autoint", "pairs": [pair]}), 422)
    assert [error["location"] for error in document["errors"]] == [f"body.pairs.0.{name}"]


def test_scores_of_pairs_in_their_order(client: TestClient, bundles: dict[str, ModelBundle]) -> None:
    movies = bundles["autoint"].movies["movie_id"].tolist()
    pairs = [{"user_id": user, "movie_id": movie, "year": 2001, "month": 5} for user in (9, 3) for movie in movies[:10]]
    response = client.post("/score", json={"model": "autoint", "pairs": pairs})
    assert response.status_code == 200
    found = response.json()
    assert found["scores"] == pytest.approx(
        Scorer(bundles["autoint"]).score_pairs(pd.DataFrame(pairs)).tolist(), abs=1e-6
    )
    assert (found["model"], found["model_version"], found["score_is_chance"]) == ("autoint", "3", True)


def test_bad_batches_are_refused(client: TestClient, problem: Problem) -> None:
    pair = {"user_id": 3, "movie_id": 1, "year": 2001, "month": 5}
    document = problem(client.post("/score", json={"model": "autoint", "pairs": [pair] * 21}), 422)
    assert "at most 20 items" in document["detail"]
    assert "pairs" in problem(client.post("/score", json={"model": "autoint", "pairs": []}), 422)["detail"]
    unknown = {**pair, "movie_id": 987654}
    assert (
        "unknown movie_id 987654"
        in problem(client.post("/score", json={"model": "autoint", "pairs": [pair, unknown]}), 404)["detail"]
    )
    assert "body" in problem(client.post("/score", content=b"nothing"), 422)["detail"]
