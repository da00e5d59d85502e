"""Test that data sets whose ids start at 0, or are strings, are served."""

import json
from pathlib import Path

import pandas as pd
import pytest
from fastapi.testclient import TestClient

from app.__main__ import main
from ml.features.tables import join_interactions
from ml.models.bundle import ModelBundle
from ml.published.recommendations import get_recommendations
from tests.app.conftest import MODELS
from tests.app.service.conftest import serving
from tests.feature_maps import fitted
from tests.published_home import MOMENT, publish, write_tables
from tests.string_ids import user_name
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


@pytest.mark.parametrize("as_json", [True, False])
def test_command_takes_a_string_literally(
    as_json: bool, home_of_strings: Path, settings: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.setenv("PIPELINE_HOME", str(home_of_strings))
    asked = ["recommend", "--user", user_name(7), "--year=2001", "--month=5", *(["--json"] if as_json else [])]
    expected = get_recommendations(user_name(7), 2001, 5, home=home_of_strings)["movie_id"].tolist()
    assert main(asked) == 0
    printed = capsys.readouterr().out
    if as_json:
        assert [movie["movie_id"] for movie in json.loads(printed)] == expected
    else:
        assert all(f" {movie} " in line for movie, line in zip(expected, printed.splitlines()[2:], strict=True))


def test_command_names_an_unknown_string(
    home_of_strings: Path, settings: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.setenv("PIPELINE_HOME", str(home_of_strings))
    assert main(["recommend", "--user=7", "--year=2001", "--month=5"]) == 1
    assert f"unknown user_id '7'; the model knows 300 from {user_name(1)!r}" in capsys.readouterr().err
