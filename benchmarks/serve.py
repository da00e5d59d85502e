"""Load-test the REST service with wrk, on the results of ``make run``: ``make bench-serve``.

Lookups come from the nightly table, as fast as 32 connections can request them. Live lists are requested 20 times per
second at fixed times, independent of the responses (an open loop); latency counts from those times. Writes
``bench/serve.json`` in the home; its live figures are those of the slowest model.
"""

import asyncio
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.common import published_dataset, say, write_json
from orchestration.config.settings import PROJECT_ROOT

_CONNECTIONS, _LOOKUP_SECONDS, _WARM_UP_SECONDS = 32, 20, 3
_LIVE_RATE, _LIVE_SECONDS = 20, 20
_START_SECONDS = 300
_SEED = 42
_SCRIPT = """math.randomseed({seed})
request = function()
  return wrk.format("GET", "/users/" .. math.random(1, {users}) .. "/recommendations")
end
done = function(summary, latency)
  local e = summary.errors
  io.write(string.format("found %d %d %f %d\\n", summary.requests, summary.duration, latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


def main(arguments: list[str]) -> None:
    """Measure and print."""
    wrk = shutil.which("wrk")
    if wrk is None:
        sys.exit("error: wrk is not installed; install it (apt install wrk)")
    home, dataset = published_dataset(arguments)
    with service(dataset) as address:
        description = httpx.get(f"{address}/models", timeout=30).json()
        users = min(model["users"] for model in description["models"])
        _lookups(wrk, address, users, _WARM_UP_SECONDS)
        lookup = _lookups(wrk, address, users, _LOOKUP_SECONDS)
        lives = {model["model"]: asyncio.run(_live(address, model, users)) for model in description["models"]}
    rows = [{"requests": "lookup", **lookup}, *({"requests": f"live {name}", **live} for name, live in lives.items())]
    say(f"{dataset}: requests per second and milliseconds", rows, 1)
    worst = max(lives.values(), key=lambda live: float(live["p99_ms"]))
    errors = int(lookup["errors"] + sum(live["errors"] for live in lives.values()))
    figures = {"lookup": _short(lookup), "live": _short(worst), "errors": errors}
    write_json(
        home / "bench" / "serve.json",
        {**figures, "live_by_model": {name: _short(live) for name, live in lives.items()}},
    )


def _short(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(figures[name], 2) for name in ("rps", "p99_ms")}


@contextmanager
def service(dataset: str) -> Iterator[str]:
    """Start the service in a separate process, wait until it is ready, and return its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "SERVE_PORT": str(port), "SERVE_DATASET": dataset}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app.service"], cwd=PROJECT_ROOT, env=environment, stdout=log, stderr=log
        )
        try:
            _wait(process, f"{address}/readyz")
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def _wait(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            sys.exit(f"error: the service ended with status {process.returncode}; try make serve")
        try:
            if httpx.get(url, timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    sys.exit(f"error: {url} is not ready after {_START_SECONDS} s")


def _lookups(wrk: str, address: str, users: int, seconds: int) -> dict[str, float]:
    """Request lists of random users from the table."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "users.lua"
        script.write_text(_SCRIPT.format(seed=_SEED, users=users))
        command = [wrk, "-t1", f"-c{_CONNECTIONS}", f"-d{seconds}s", "-s", str(script), address]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    found = re.search(r"found (\d+) (\d+) ([\d.]+) (\d+)", done.stdout)
    if found is None:
        sys.exit(f"error: cannot parse the output of wrk:\n{done.stdout}{done.stderr}")
    requests, microseconds, p99, errors = map(float, found.groups())
    return {"rps": requests / microseconds * 1e6, "p99_ms": p99 / 1000, "errors": errors}


async def _live(address: str, model: dict[str, Any], users: int) -> dict[str, float]:
    """Request lists of random users for a different year than the table's, at fixed times."""
    draw = random.Random(_SEED)  # noqa: S311 - not a secret
    year = next(year for year in model["years"] if year != model["year"])
    query = {"model": model["model"], "year": year, "month": model["month"]}
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=200)) as client:
        start = time.perf_counter() + 0.1

        async def ask(number: int) -> tuple[float, bool]:
            due = start + number / _LIVE_RATE
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            path = f"/users/{draw.randint(1, users)}/recommendations"
            try:
                response = await client.get(f"{address}{path}", params=query)
                good = response.status_code == httpx.codes.OK and response.json()["source"] == "live"
            except httpx.TransportError:
                good = False
            return time.perf_counter() - due, good

        answers = await asyncio.gather(*(ask(number) for number in range(_LIVE_RATE * _LIVE_SECONDS)))
        seconds = time.perf_counter() - start
    latencies = [latency for latency, _ in answers]
    good = sum(fine for _, fine in answers)
    return {
        "rps": good / seconds,
        "p50_ms": float(np.percentile(latencies, 50)) * 1000,
        "p99_ms": float(np.percentile(latencies, 99)) * 1000,
        "errors": len(answers) - good,
    }


if __name__ == "__main__":
    main(sys.argv[1:])
