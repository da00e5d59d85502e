"""Measure the web app's time from click to answer, in Chromium, on the results of ``make run``: ``make bench-app``.

The networks are loaded before the first click, as in an app that has run for a minute. Writes ``bench/app.json`` in the
home.
"""

import random
import statistics
import sys
import time
from typing import Any

from playwright.sync_api import Page, expect

from benchmarks.common import published_dataset, say, write_json
from tests.browser import chromium, open_page, server
from tests.waiting import free_port

_CLICKS, _SEED = 15, 42
_WAIT = 180_000  # ms, until the networks are loaded
_ANSWERED = """title => document.querySelector("h1")?.innerText.trim() === title
  && document.querySelector("[data-testid=stApp]").dataset.testScriptState === "notRunning"
  && document.querySelectorAll(".rec-list li").length === 10"""
_MODELS = ("autoint", "autoint_collaborative", "autoint_catalogue")


def main(arguments: list[str]) -> None:
    """Measure and print."""
    home, dataset = published_dataset(arguments)
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    variables = {"PIPELINE_HOME": home, "SERVE_DATASET": dataset, "APP_PORT": port}
    rows = []
    with chromium() as browser, server("app.web", f"{address}/_stcore/health", variables), open_page(browser) as page:
        page.set_default_timeout(_WAIT)
        expect.set_options(timeout=_WAIT)
        for model in _MODELS:
            for kind, query in (("table", ""), ("live", "&year=2001&month=5")):
                page.goto(f"{address}/?user=1&model={model}{query}")
                expect(page.locator(".rec-list")).to_be_visible()
                expect(page.get_by_text("Computing explanations")).to_have_count(0)
                rows.append({"model": model, "answer": kind, **_clicks(page)})
    say(f"{dataset}: seconds from the click to the answer", rows)
    write_json(home / "bench" / "app.json", {"clicks": _CLICKS, "seconds": rows})


def _clicks(page: Page) -> dict[str, Any]:
    """Request random users."""
    draw = random.Random(_SEED)  # noqa: S311 - not a secret
    seconds = []
    for user in draw.sample(range(2, 6000), _CLICKS):
        page.get_by_label("User ID").fill(str(user))
        start = time.perf_counter()
        page.get_by_role("button", name="Recommend").click()
        page.wait_for_function(_ANSWERED, arg=f"User {user}")  # checks every frame; expect may be up to a second late
        seconds.append(time.perf_counter() - start)
    return {"median": statistics.median(seconds), "longest": max(seconds)}


if __name__ == "__main__":
    main(sys.argv[1:])
