"""Measure the REST service's lists for visitors: ``make bench-serve-visitors``, on the results of ``make run``.

One request after another, each of another visitor, whose liked movies are those of a random known user. Every fifth
names as many as a request can. Writes ``bench/serve_visitors.json`` in the home.
"""

import sys
import time
from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np

from app.service.limits import MOST_LIKED
from benchmarks.common import published_dataset, read_table, say, write_json
from benchmarks.serve import service
from ml import schema
from ml.published.people import People

_REQUESTS, _WARM_UP, _SEED = 200, 5, 42
_FEW = 5  # movies that most visitors name


def main(arguments: list[str]) -> None:
    """Measure and print."""
    home, dataset = published_dataset(arguments)
    visitors = _visitors(People(*(read_table(dataset, name) for name in ("users", "movies", "ratings"))))
    with service(dataset) as address, httpx.Client(base_url=address, timeout=60) as client:
        names = [model["model"] for model in client.get("/models").json()["models"]]
        figures = {name: _measured(client, name, visitors) for name in names}
    say(f"{dataset}: {_REQUESTS} requests, milliseconds", [{"model": name, **own} for name, own in figures.items()], 1)
    write_json(home / "bench" / "serve_visitors.json", figures)


def _visitors(people: People) -> list[dict[str, Any]]:
    """Return requests, without the model."""
    rng = np.random.default_rng(_SEED)
    likes = people.ratings[people.ratings[schema.LABEL] == 1].groupby("user_id")["movie_id"]
    users = rng.choice(np.array(list(likes.groups), dtype=object), _REQUESTS)
    made = []
    for number, user in enumerate(users):
        own = likes.get_group(user).tolist()
        count = min(len(own), MOST_LIKED if number % 5 == 4 else _FEW)
        profile = people.profile(user)
        features = {name: profile[name] for name in people.visitor_choices}
        made.append({"liked": [own[i] for i in rng.choice(len(own), count, replace=False)], "features": features})
    return made


def _measured(client: httpx.Client, model: str, visitors: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return percentiles in milliseconds, and the number of requests without a list."""
    for visitor in visitors[:_WARM_UP]:
        client.post("/recommendations", json={"model": model, **visitor})
    milliseconds, errors = [], 0
    for visitor in visitors:
        begin = time.perf_counter()
        response = client.post("/recommendations", json={"model": model, **visitor})
        milliseconds.append((time.perf_counter() - begin) * 1000)
        errors += response.status_code != httpx.codes.OK or len(response.json()["items"]) != 10
    p50, p99 = np.percentile(milliseconds, [50, 99])
    return {"p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2), "errors": errors}


if __name__ == "__main__":
    main(sys.argv[1:])
