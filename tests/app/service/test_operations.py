import json
import re
import threading
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
import pytest
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from app.service import log as service_log
from app.service.config import load_serving_config
from app.service.state import State
from ml.errors import DataError
from ml.models.bundle import ModelBundle
from ml.published.purposes import SENTENCES, Purpose
from tests.app.service.conftest import CONFIG, Log, Problem, serving
from tests.published_home import DATASET, publish, table_path
from tests.waiting import until


def metric(client: TestClient, name: str, **labels: str) -> float:
    families = text_string_to_metric_families(client.get("/metrics").text)
    samples = [sample for family in families for sample in family.samples if sample.name == name]
    return sum(sample.value for sample in samples if labels.items() <= sample.labels.items())


def test_models_are_described(client: TestClient) -> None:
    found = client.get("/models").json()
    assert found["dataset"] == DATASET
    [autoint, mlp] = found["models"]
    assert (autoint["model"], autoint["model_version"], autoint["score_is_chance"]) == ("autoint", "3", True)
    assert (mlp["model"], mlp["calibration_error"], mlp["score_is_chance"]) == ("autoint_mlp", 0.2, False)
    assert autoint["months"] == list(range(1, 13))
    assert (autoint["users"], autoint["movies"]) == (300, 200)


def test_ready_says_which_versions(client: TestClient) -> None:
    found = client.get("/readyz").json()
    assert found["versions"] == {"autoint": "3", "autoint_mlp": "1"}
    assert (found["status"], found["dataset"], found["last_refresh_error"]) == ("ready", DATASET, None)


def test_without_tables_it_is_alive_and_ready_once_they_exist(
    published_home: Path, tmp_path: Path, problem: Problem
) -> None:
    home = tmp_path / "home"
    with serving(home) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        until(lambda: "make run" in client.get("/readyz").text)
        for path in ("/readyz", "/users/7/recommendations", "/models"):
            response = client.get(path)
            assert "run the pipeline first (make run)" in problem(response, 503)["detail"]
            assert int(response.headers["Retry-After"]) > 0
        home.symlink_to(published_home)
        until(lambda: client.get("/readyz").status_code == 200)
        assert client.get("/users/7/recommendations").status_code == 200


def test_arm_without_its_model_is_not_ready(published_home: Path, problem: Problem) -> None:
    arms = [{"model": "autoint", "share": 0.5}, {"model": "als", "share": 0.5}]
    experiment = {"name": "test", "arms": arms}
    config = CONFIG.model_validate({**CONFIG.model_dump(), "experiment": experiment})
    with serving(published_home, config) as client:
        until(lambda: client.get("/models").status_code == 200)
        assert "the experiment's als is not published" in problem(client.get("/readyz"), 503)["detail"]
        answers = {client.get(f"/users/{user}/recommendations").status_code for user in range(1, 30)}
        assert answers == {200, 503}
        assert client.get("/users/7/recommendations?model=autoint").status_code == 200


def test_new_champion_takes_over_while_requests_are_answered(
    own_home: Path, bundles: dict[str, ModelBundle], tables: dict[str, pd.DataFrame]
) -> None:
    log, answers, stop = Log(), [], threading.Event()
    with serving(own_home, log=log) as client:
        until(lambda: client.get("/readyz").status_code == 200)

        def ask() -> None:
            while not stop.is_set():
                for query in ("", "&k=12"):  # from the table, and live
                    response = client.get(f"/users/7/recommendations?model=autoint{query}")
                    answers.append((response.status_code, response.json()))

        asking = [threading.Thread(target=ask) for _ in range(2)]
        for thread in asking:
            thread.start()
        publish(own_home, "autoint", "4", bundles["autoint_mlp"], tables["ratings"])
        until(lambda: any(answer["model_version"] == "4" for _, answer in answers[-4:]))
        time.sleep(0.1)
        stop.set()
        for thread in asking:
            thread.join()
        assert client.get("/readyz").json()["versions"] == {"autoint": "4", "autoint_mlp": "1"}
        assert metric(client, "recommender_version", model="autoint", version="4") == 1
        assert metric(client, "recommender_version", model="autoint") == 1
    assert {status for status, _ in answers} == {200}
    # Each response comes from one version: one list per version and length.
    lists = {(a["model_version"], len(a["items"]), tuple(item["movie_id"] for item in a["items"])) for _, a in answers}
    assert {(version, length) for version, length, _ in lists} == {("3", 10), ("3", 12), ("4", 10), ("4", 12)}
    assert len(lists) == 4
    assert log.of("refreshed")[-1]["versions"] == {"autoint": "4", "autoint_mlp": "1"}


def test_damaged_publication_keeps_the_old_one_and_is_reported(own_home: Path) -> None:
    log = Log()
    with serving(own_home, log=log) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        before = client.get("/users/7/recommendations").json()
        table_path(own_home, "autoint").write_bytes(b"nothing")
        until(lambda: bool(client.get("/readyz").json()["last_refresh_error"]))
        assert "autoint/3/top10.parquet" in client.get("/readyz").json()["last_refresh_error"]
        assert client.get("/users/7/recommendations").json() == before
        assert metric(client, "recommender_refreshes_total", result="failed") >= 1
    assert "autoint/3/top10.parquet" in log.of("refresh_failed")[0]["error"]


def test_requests_are_logged_and_counted(client: TestClient, log: Log) -> None:
    route = "/users/{user_id}/recommendations"
    before = metric(client, "recommender_requests_total", route=route, status="200")
    response = client.get("/users/7/recommendations?model=autoint", headers={"X-Request-ID": "abc-123"})
    assert response.headers["X-Request-ID"] == "abc-123"
    line = log.of("request")[-1]
    expected = {
        "request_id": "abc-123", "method": "GET", "route": route, "path": "/users/7/recommendations", "status": 200,
        "user_id": 7, "model": "autoint", "model_version": "3", "source": "table", "arm": None,
    }  # fmt: skip
    assert expected.items() <= line.items()
    assert line["ms"] > 0
    assert metric(client, "recommender_requests_total", route=route, status="200") == before + 1
    assert metric(client, "recommender_request_seconds_count", route=route) >= 1


@pytest.mark.parametrize("given", ['a"b c', "a\n", "x" * 65, "\x1b[31m", "é"])
def test_request_id_that_could_break_a_log_is_replaced(given: str, client: TestClient) -> None:
    found = client.get("/healthz", headers={"X-Request-ID": given.encode()}).headers["X-Request-ID"]
    assert re.fullmatch("[0-9a-f]{32}", found)


def test_path_cannot_forge_a_line_of_the_log_nor_fill_it(client: TestClient, log: Log) -> None:
    evil = '\n{"event": "request"}\r\x1b[31m\x7f\x9b\x85\u2028\u202e' + "x" * 5000
    client.get(f"/{quote(evil)}", headers={"User-Agent": "\x1b[31mforged"})
    written = lines_of(lambda logger: logger.info(**log.of("request")[-1]))
    [line] = written.decode("ascii").splitlines()
    assert json.loads(line)["path"] == f"/{evil}"[:256]
    assert all(" " <= character <= "~" for character in line)
    assert "forged" not in line


def test_invalid_unicode_is_logged(log: Log) -> None:
    assert json.loads(lines_of(lambda logger: logger.info("request", path="\ud800")))["path"] == "\ud800"


def lines_of(write: Callable[[Any], None]) -> bytes:
    """Return what the service's logger writes to standard output."""

    class Out:
        buffer = BytesIO()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service_log.sys, "stdout", Out)
        write(service_log.make_logger())
    return Out.buffer.getvalue()


def test_log_lines_are_json() -> None:
    def write(logger: Any) -> None:
        logger.info("request", status=200)
        try:
            raise ValueError("told")
        except ValueError:
            logger.exception("failed")

    first, second = map(json.loads, lines_of(write).splitlines())
    assert (first["event"], first["status"], first["level"]) == ("request", 200, "info")
    assert second["exception"][0]["exc_value"] == "told"


def test_bug_is_logged_and_hidden_from_the_caller(
    client: TestClient, log: Log, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr(State, "arm_model", fail)
    response = client.get("/users/7/recommendations")
    assert "secret" not in response.text
    document = problem(response, 500)
    assert "X-Request-ID" in document["detail"]
    [line] = [line for line in log.of("failed") if line["request_id"] == response.headers["X-Request-ID"]]
    assert line["path"] == "/users/7/recommendations"


def test_too_many_live_requests_must_retry_later(
    published_home: Path, problem: Problem, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = CONFIG.model_copy(update={"max_queue": 1})
    with serving(published_home, config) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        state: State = client.app.state.recommender  # type: ignore[attr-defined]
        release = threading.Event()
        state.score_live(release.wait)
        response = client.get("/users/7/recommendations?model=autoint&k=20")
        assert "wait to be scored live" in problem(response, 503)["detail"]
        assert response.headers["Retry-After"] == "1"
        assert metric(client, "recommender_live_waiting") == 1
        assert client.get("/users/7/recommendations").status_code == 200  # tables never wait
        release.set()
        until(lambda: client.get("/users/7/recommendations?model=autoint&k=20").status_code == 200)


def test_unknown_path_and_method_are_problems(client: TestClient, problem: Problem) -> None:
    assert problem(client.get("/nothing"), 404)["instance"] == "/nothing"
    assert problem(client.delete("/models"), 405)["instance"] == "/models"


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("share: 0.5}", "share: 0.6}", r"experiment\.arms: .*add up to 1, found 1\.2"),
        ("model: autoint_catalogue", "model: autoint_collaborative", r"experiment\.arms: .*each model only once"),
        ("refresh_seconds: 15", "refresh_seconds: 90", r"refresh_seconds: .*less than or equal to 60"),
        ("max_k: 100", "longest: 100", "max_k|longest"),
    ],
)
def test_bad_configuration_is_refused_with_the_field(old: str, new: str, error: str, tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "serving.yaml").read_text()
    path = tmp_path / "serving.yaml"
    path.write_text(text.replace(old, new))
    with pytest.raises(DataError, match=rf"serving\.yaml, ({error})"):
        load_serving_config(path)


def test_models_have_purposes_and_a_default(client: TestClient) -> None:
    found = client.get("/models").json()
    assert found["default"] == "autoint_mlp"
    assert {model["model"]: model["purpose"] for model in found["models"]} == {
        "autoint": SENTENCES[Purpose.LIKES],
        "autoint_mlp": SENTENCES[Purpose.NEXT],
    }


def test_without_an_experiment_the_default_model_answers(published_home: Path) -> None:
    config = CONFIG.model_validate({**CONFIG.model_dump(), "experiment": None})
    with serving(published_home, config) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        found = client.get("/users/7/recommendations").json()
        assert (found["model"], found["arm"]) == ("autoint_mlp", None)


def test_root_redirects_to_docs_that_work_offline(client: TestClient) -> None:
    page = client.get("/")
    assert page.url.path == "/docs"
    loaded = re.findall(r"""(?:src|href)=["']([^"']+)|url: '([^']+)'""", page.text)
    addresses = [first or second for first, second in loaded]
    assert len(addresses) >= 4  # script, style sheet, icon and schema
    for address in addresses:
        assert address.startswith("/"), address
        assert client.get(address).status_code == 200
    assert re.findall(r"https?://", page.text) == []
    assert client.get("/redoc").status_code == 404  # it would fetch an image from a CDN
