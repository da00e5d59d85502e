"""Ask the REST service for lists all the time, as a product does, and compare them with the published tables."""

import http.client
import json
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

_HOST = "127.0.0.1"
_PAUSE_SECONDS, _ANSWER_SECONDS = 0.5, 10
_REFRESH_SECONDS = 3  # in which the service sees a change
_LENGTH = 10
Lists = Mapping[int, list[int]]  # movies by user, best first


class Reader(threading.Thread):
    """Ask for the list of one user after another.

    Args:
        port: of the service.
        model: whose lists are asked for.
        archive: directory of the model's versions.

    Attributes:
        answers: how many lists it got.
    """

    def __init__(self, port: int, model: str, archive: Path) -> None:
        super().__init__(daemon=True, name="reader")
        self.answers = 0
        self._port, self._model, self._archive = port, model, archive
        self._tables: dict[str, Lists] = {}
        self._problems: list[str] = []
        self._lock, self._ended = threading.Lock(), threading.Event()

    def problems(self) -> list[str]:
        """Return what was wrong since the last call."""
        with self._lock:
            found, self._problems = self._problems, []
        return found

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        self.join()

    def run(self) -> None:
        """Called by the thread."""
        rng = np.random.default_rng(0)
        while not self._ended.wait(_PAUSE_SECONDS):
            try:
                users = self._users()
                problem = self._problem(int(rng.choice(users))) if users else ""
            except Exception as error:  # whatever it is, it has to be told
                problem = f"an answer that cannot be read: {error!r}"
            self.answers += bool(self._tables)
            if problem:
                with self._lock:
                    self._problems.append(problem)

    def _users(self) -> list[int]:
        """Return the users of the newest known table; of the first champion's, as soon as there is one."""
        if not self._tables and (self._archive / "champions.json").exists():
            self._table(self._champion())
        return list(self._tables[max(self._tables, key=int)]) if self._tables else []

    def _problem(self, user: int) -> str:
        begin = time.monotonic()
        try:
            status, body = self._get(user)
            if status == http.client.NOT_FOUND:  # the service may not have seen yet that the champion has changed
                self._ended.wait(_REFRESH_SECONDS)
                status, body = self._get(user)
        except OSError as error:
            return f"user {user}: no answer after {time.monotonic() - begin:.1f} s: {error!r}"
        if status != http.client.OK:
            is_unknown = status == http.client.NOT_FOUND and user not in self._published_users()
            return "" if is_unknown else f"user {user}: status {status}: {body[:200]!r}"
        answer = json.loads(body)
        movies, version = [item["movie_id"] for item in answer["items"]], answer["model_version"]
        if answer["source"] != "table":
            return f"user {user}: the list is not from a table"
        try:
            known = self._table(version)
            if user in known and movies != known[user]:
                del self._tables[version]  # a champion that stays gets a new table when there is new data
                known = self._table(version)
        except FileNotFoundError:
            return f"user {user}: version {version} answers, which is no longer kept"
        if user in known and movies != known[user]:
            return f"user {user}: the list is not that of version {version}, which it names"
        return "" if len(movies) == _LENGTH else f"user {user}: {len(movies)} movies"

    def _get(self, user: int) -> tuple[int, bytes]:
        """Return status and body of an answer. Raises OSError."""
        connection = http.client.HTTPConnection(_HOST, self._port, timeout=_ANSWER_SECONDS)
        try:
            connection.request("GET", f"/users/{user}/recommendations?model={self._model}")
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def _champion(self) -> str:
        return str(json.loads((self._archive / "champions.json").read_bytes())[-1])

    def _published_users(self) -> set[int]:
        """Return the users with a list: after a rollback, only those who were there when the champion was trained."""
        return set(pd.read_parquet(self._archive / self._champion() / "top10.parquet", columns=["user_id"])["user_id"])

    def _table(self, version: str) -> Lists:
        if version not in self._tables:
            table = pd.read_parquet(self._archive / version / "top10.parquet", columns=["user_id", "rank", "movie_id"])
            lists = table.sort_values(["user_id", "rank"]).groupby("user_id")["movie_id"]
            self._tables[version] = {int(user): movies.tolist() for user, movies in lists}
        return self._tables[version]
