import json
from pathlib import Path

import pytest

from app.__main__ import main
from ml.published.purposes import SENTENCES, Purpose
from ml.published.recommendations import get_recommendations
from tests.published_home import DATASET

ASKED = ["recommend", "--user", "7", "--year", "2001", "--month", "5", "--json"]


@pytest.mark.usefixtures("settings")
def test_default_model_answers_from_the_configured_home(
    published_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(ASKED) == 0
    printed = capsys.readouterr()
    expected = get_recommendations(7, 2001, 5, "autoint_mlp", home=published_home)
    assert [movie["movie_id"] for movie in json.loads(printed.out)] == expected["movie_id"].tolist()
    assert printed.err == f"autoint_mlp: {SENTENCES[Purpose.NEXT]}\n"
    by_default = get_recommendations(7, 2001, 5, home=published_home)
    assert by_default["movie_id"].tolist() == expected["movie_id"].tolist()


@pytest.mark.usefixtures("settings")
def test_named_model_prints_its_purpose(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ASKED, "--model", "autoint"]) == 0
    assert capsys.readouterr().err == f"autoint: {SENTENCES[Purpose.LIKES]}\n"


def test_option_overrides_the_configured_data_set(
    settings: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.setenv("SERVE_DATASET", "films")
    assert main(ASKED) == 1
    assert "no model of data set 'films' is published" in capsys.readouterr().err
    assert main([*ASKED, "--dataset", DATASET]) == 0


def test_option_overrides_the_configured_home(
    settings: pytest.MonkeyPatch, published_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings.setenv("PIPELINE_HOME", str(tmp_path))
    assert main(ASKED) == 1
    assert f"no model is published under {tmp_path}" in capsys.readouterr().err
    assert main([*ASKED, "--home", str(published_home)]) == 0


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("user", ["-1", "2147483648", "1_0", "x"])
def test_invalid_id_is_refused_with_the_valid_range(user: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recommend", f"--user={user}", "--year=2001", "--month=5"]) == 1
    assert "expected an integer from 0 to 2147483647" in capsys.readouterr().err
