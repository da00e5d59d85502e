"""Test that the soak test's client of the REST service finds wrong answers, and that its webhook hangs."""

import json
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.soak.reader import Reader
from tests.soak.webhook import Webhook
from tests.waiting import until

MOVIES = [*range(101, 111)]


class Service(ThreadingHTTPServer):
    """Answers every request with ``answer``, or with a status."""

    answer: dict[str, Any]
    status = 200


@pytest.fixture
def service() -> Iterator[Service]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert isinstance(self.server, Service)
            self.send_response(self.server.status)
            self.end_headers()
            self.wfile.write(json.dumps(self.server.answer).encode())

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with Service(("127.0.0.1", 0), Handler) as server:
        server.answer = answer(MOVIES)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def answer(movies: list[int], version: str = "1", source: str = "table") -> dict[str, Any]:
    return {"model_version": version, "source": source, "items": [{"movie_id": movie} for movie in movies]}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    (tmp_path / "champions.json").write_text('["1"]')
    for version, movies in (("1", MOVIES), ("2", MOVIES[::-1])):
        (tmp_path / version).mkdir()
        table = pd.DataFrame({"user_id": 7, "rank": range(1, 11), "movie_id": movies})
        table.sample(frac=1, random_state=0).to_parquet(tmp_path / version / "top10.parquet")
    return tmp_path


@pytest.mark.parametrize(
    ("given", "status", "problem"),
    [
        (answer(MOVIES), 200, ""),
        (answer(MOVIES[::-1], "2"), 200, ""),
        (answer(MOVIES, "2"), 200, "user 7: the list is not that of version 2, which it names"),
        (answer(MOVIES[:9]), 200, "user 7: the list is not that of version 1, which it names"),
        (answer(MOVIES, source="live"), 200, "user 7: the list is not from a table"),
        (answer(MOVIES, "3"), 200, "user 7: version 3 answers, which is no longer kept"),
        (answer(MOVIES), 503, "user 7: status 503: b'"),
    ],
)
def test_a_wrong_answer_is_a_problem(
    service: Service, archive: Path, given: dict[str, Any], status: int, problem: str
) -> None:
    service.answer, service.status = given, status
    reader = Reader(service.server_port, "autoint", archive)
    reader.start()
    until(lambda: reader.answers > 0)
    reader.stop()
    found = reader.problems()
    assert all(text.startswith(problem) for text in found)
    assert bool(found) == bool(problem)
    assert reader.problems() == []


def test_a_champions_table_may_be_replaced(service: Service, archive: Path) -> None:
    reader = Reader(service.server_port, "autoint", archive)
    reader.start()
    until(lambda: reader.answers > 0)
    pd.read_parquet(archive / "2" / "top10.parquet").to_parquet(archive / "1" / "top10.parquet")
    service.answer = answer(MOVIES[::-1])
    asked = reader.answers
    until(lambda: reader.answers > asked + 1)
    reader.stop()
    assert reader.problems() == []


@pytest.mark.parametrize("without", ["1", "2", None])
def test_only_a_champion_without_a_users_list_may_not_know_the_user(
    service: Service, archive: Path, monkeypatch: pytest.MonkeyPatch, without: str | None
) -> None:
    monkeypatch.setattr("tests.soak.reader._REFRESH_SECONDS", 0)
    (archive / "champions.json").write_text('["1", "2"]')
    reader = Reader(service.server_port, "autoint", archive)
    reader.start()
    until(lambda: reader.answers > 0)
    if without:
        path = archive / without / "top10.parquet"
        pd.read_parquet(path).assign(user_id=8).to_parquet(path)
    service.status = 404
    asked = reader.answers
    until(lambda: reader.answers > asked + 1)
    reader.stop()
    assert bool(reader.problems()) == (without != "2")


def test_no_answer_is_a_problem(service: Service, archive: Path) -> None:
    reader = Reader(service.server_port, "autoint", archive)
    service.shutdown()
    service.server_close()
    reader.start()
    until(lambda: reader.answers > 0)
    reader.stop()
    assert "no answer" in reader.problems()[0]


def test_a_webhook_that_hangs_answers_later() -> None:
    with Webhook() as webhook:
        webhook.hang(True)
        request = urllib.request.Request(webhook.url, b"{}")
        post = threading.Thread(target=lambda: urllib.request.urlopen(request).close())
        post.start()
        post.join(0.3)
        assert post.is_alive()
        assert webhook.posts == 0
        webhook.hang(False)
        post.join()
        assert webhook.posts == 0
        urllib.request.urlopen(request).close()
        assert webhook.posts == 1
