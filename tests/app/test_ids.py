"""Test that data sets whose ids start at 0 are served."""

from pathlib import Path

import pandas as pd
import pytest
from fastapi.testclient import TestClient

from app.__main__ import main
from ml.features.tables import join_interactions
from ml.models.bundle import ModelBundle
from tests.app.conftest import MODELS
from tests.app.service.conftest import serving
from tests.feature_maps import fitted
from tests.published_home import MOMENT, publish, write_tables
from tests.waiting import until


@pytest.fixture
def home(tables: dict[str, pd.DataFrame], bundles: dict[str, ModelBundle], tmp_path: Path) -> Path:
    """Copy the published home with all ids minus one."""
    ids = ("user_id", "movie_id")
    moved = {name: table.assign(**{c: table[c] - 1 for c in ids if c in table}) for name, table in tables.items()}
    feature_map = fitted(join_interactions(**moved))
    write_tables(tmp_path, moved)
    for name, version in MODELS.items():
        bundle = ModelBundle.of(bundles[name].network, feature_map, moved["users"], moved["movies"])
        publish(tmp_path, name, version, bundle, moved["ratings"])
    return tmp_path


def test_user_and_movie_0_are_known(
    home: Path, settings: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(home) as client:
        until(lambda: client.get("/readyz").status_code == 200)
        assert len(client.get("/users/0/recommendations").json()["items"]) == 10
        assert score(client, 0, 0) == 200
    settings.setenv("PIPELINE_HOME", str(home))
    assert main(["recommend", "--user=0", f"--year={MOMENT[0]}", f"--month={MOMENT[1]}"]) == 0
    assert "title" in capsys.readouterr().out


def score(client: TestClient, user: int, movie: int) -> int:
    pair = {"user_id": user, "movie_id": movie, "year": MOMENT[0], "month": MOMENT[1]}
    return int(client.post("/score", json={"model": "autoint", "pairs": [pair]}).status_code)
