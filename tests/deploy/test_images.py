"""The container images, built and run: what is in them, and that they do their work."""

import json
import os
import re
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pandas as pd
import pytest

from orchestration.config.settings import PROJECT_ROOT
from tests.deploy.buildah import USER, Container
from tests.deploy.conftest import JOB, OUT
from tests.waiting import free_port, until

pytestmark = [pytest.mark.images, pytest.mark.xdist_group("images")]
PROJECT = "movie-recommender"
TARGETS = ("pipeline", "service", "app")
START_SECONDS, STOP_SECONDS = 400, 60
KEY = secrets.token_hex(32)
# Distributions that train and track, with what they bring; nothing that answers a request needs them.
HEAVY = {"tensorflow", "tensorflow-cpu", "dagster", "mlflow", "mlflow-skinny", "ray", "scikit-learn", "optuna"}
COMPILERS = re.compile(r"(.*-)?(gcc|g\+\+|cc|c\+\+|clang|ld|as|make|cmake|rustc)(-[\d.]+)?")
SECRET = re.compile(r"password|passwd|token|secret|api_?key|index_url", re.IGNORECASE)
# The page of a user and a month whose lists are not stored, run as Streamlit runs it for a visitor. The process ends at
# once: its thread that loads networks may hold a lock of h5py, for which Python would wait forever at its own end.
PAGE = """
import os, sys, traceback
from streamlit.testing.v1 import AppTest
try:
    page = AppTest.from_file("app/movie_rec_app.py", default_timeout=600)
    page.query_params.update({"user": "1", "year": "2001", "month": "3"})
    page.run()
    assert not page.exception, page.exception
    assert not page.error, page.error
    print(*(each.value for each in page.title), *(each.value for each in page.subheader), flush=True)
    os._exit(0)
except Exception:
    traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)
"""

Made = Callable[[str], Container]


@contextmanager
def started(container: Container) -> Iterator[None]:
    """Run the image's own command until its health check passes; end it afterwards."""
    assert not container.healthy(), "something else is on its port"
    process = container.start()
    try:
        until(lambda: process.poll() is not None or container.healthy(), START_SECONDS)
        assert process.poll() is None, f"ended with status {process.returncode}"
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_SECONDS)


def answer(address: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(address, data, {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"})
    with urlopen(request, timeout=60) as response:
        return json.load(response)


def bill_of(target: str) -> dict[str, Any]:
    """The bill of materials that the build has written."""
    return dict(json.loads((OUT / f"{target}.cdx.json").read_text("utf-8")))


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("target", TARGETS)
def test_image_runs_as_a_user_without_rights_and_checks_its_health(container: Made, target: str) -> None:
    config = container(target).image.config
    assert config["User"] == f"{USER}:{USER}"
    assert config["Healthcheck"]["Test"][0] in {"CMD", "CMD-SHELL"}


@pytest.mark.parametrize("target", TARGETS)
def test_image_has_no_secret_compiler_or_cache(container: Made, target: str) -> None:
    root, image = container(target).root, container(target).image
    assert not [each for each in image.config["Env"] if SECRET.search(each)]
    assert not SECRET.search(image.history)
    names = [path.name for folder in ("bin", "usr/bin", "usr/local/bin") for path in (root / folder).glob("*")]
    assert not [name for name in names if COMPILERS.fullmatch(name)]
    assert not [
        path
        for path in ("root/.cache", "var/cache/pip", "opt/pip", "etc/pip.conf", "run/secrets")
        if (root / path).exists()
    ]
    assert not [*(root / "opt/venv").glob("lib/python*/site-packages/pip")]
    code = {
        "LICENSE",
        ".streamlit",
        "app",
        "constraints.txt",
        "deploy",
        "docs",
        "ml",
        "orchestration",
        "pyproject.toml",
    }
    settings = {path.name for path in PROJECT_ROOT.glob("*.yaml")}
    assert {path.name for path in (root / "opt/recommender").iterdir()} == {*code, *settings, "var"}


@pytest.mark.parametrize("target", TARGETS)
def test_bill_of_materials_lists_what_is_installed_by_the_pins(container: Made, target: str) -> None:
    folders = (container(target).root / "opt/venv").glob("lib/python*/site-packages/*.dist-info")
    installed = {tuple(path.name.removesuffix(".dist-info").rsplit("-", 1)) for path in folders}
    bill = bill_of(target)
    assert bill["bomFormat"] == "CycloneDX"
    listed = {(normal(each["name"]), each["version"]) for each in bill["components"] if each["name"] != PROJECT}
    own = {(normal(name), version) for name, version in installed if normal(name) != PROJECT}
    assert listed == own
    pins = dict(line.split("==") for line in (PROJECT_ROOT / "constraints.txt").read_text("utf-8").split())
    assert own <= {(normal(name), version) for name, version in pins.items()}
    assert (OUT / f"{target}.json").is_file()


@pytest.mark.parametrize("target", ["service", "app"])
def test_what_answers_requests_has_nothing_that_trains(container: Made, target: str) -> None:
    container(target)
    assert not HEAVY & {normal(each["name"]) for each in bill_of(target)["components"]}


def test_code_location_starts_and_loads_the_definitions(container: Made, home: Path) -> None:
    pipeline = container("pipeline").on(home, {**JOB, "DAGSTER_HOME": "/data/dagster"}, writable=True)
    with started(pipeline):
        listed = pipeline.run("dagster", "job", "list", "--grpc-port", "4000", "--grpc-host", "127.0.0.1")
        assert "monthly_recommendations" in listed.stdout, listed.stderr
        assert pipeline.written() == []


def test_service_answers_from_a_home_that_it_cannot_write(container: Made, home: Path) -> None:
    port, model = free_port(), "autoint_catalogue"
    address = f"http://127.0.0.1:{port}"
    table = pd.read_parquet(home / "tables" / "synthetic-small" / f"top10_{model}.parquet")
    user = int(table["user_id"].iloc[0])
    wanted = table[table["user_id"] == user].sort_values("rank")["movie_id"].tolist()
    keys = home / "api-keys"
    keys.write_text(f"tests: {KEY}\n")
    keys.chmod(0o644)
    service = container("service").on(home, {"SERVE_PORT": port, "SERVE_KEYS_FILE": "/data/api-keys"})
    with started(service):
        until(lambda: ready(address), START_SECONDS)
        stored = answer(f"{address}/users/{user}/recommendations?model={model}")
        assert (stored["source"], movies(stored)) == ("table", wanted)
        # Another backend of Keras scores as the one that has trained.
        moment = {"year": stored["year"], "month": stored["month"]}
        pairs = [{"user_id": user, "movie_id": movie, **moment} for movie in wanted]
        scores = answer(f"{address}/score", {"model": model, "pairs": pairs})["scores"]
        assert scores == pytest.approx([each["score"] for each in stored["items"]], abs=2e-6)
        live = answer(f"{address}/users/{user}/recommendations?model={model}&k=20&{urlencode(moment)}")
        assert (live["source"], movies(live)[:10]) == ("live", wanted)
        assert service.written() == []


def test_service_without_keys_does_not_start(container: Made, home: Path) -> None:
    command = container("service").image.config["Cmd"]
    refused = container("service").on(home, {}).run(*command)
    assert refused.returncode == 1
    assert "SERVE_KEYS_FILE" in refused.stderr


def test_app_shows_a_user_from_a_home_that_it_cannot_write(container: Made, home: Path) -> None:
    port = free_port()
    app = container("app").on(home, {"STREAMLIT_SERVER_PORT": port})
    with started(app), urlopen(f"http://127.0.0.1:{port}/", timeout=60) as response:
        assert b"<title>Streamlit</title>" in response.read()
    shown = app.run("python", "-c", PAGE)
    assert shown.returncode == 0, shown.stderr
    assert "2001" in shown.stdout
    assert app.written() == []


def movies(answered: dict[str, Any]) -> list[int]:
    return [each["movie_id"] for each in answered["items"]]


def ready(address: str) -> bool:
    """Whether the service can answer, asked once a second."""
    time.sleep(1)
    try:
        with urlopen(f"{address}/readyz", timeout=30) as response:
            return bool(response.status == HTTPStatus.OK)
    except HTTPError:
        return False
