import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from app.__main__ import main
from ml.published.recommendations import get_recommendations
from tests.orchestration.conftest import DATASET, Pipeline, assert_same_list
from tests.orchestration.recipes import MODELS

COLUMNS = ["rank", "movie_id", "title", "genres", "score"]


@pytest.fixture
def moment(pipeline: Pipeline) -> tuple[int, int]:
    """Year and month of the published lists."""
    first = pipeline.table("top10_autoint").iloc[0]
    return int(first["rating_year"]), int(first["rating_month"])


def arguments(home: Path, **options: object) -> list[str]:
    """A command line that asks for a list; ``options`` add to the usual ones or replace them."""
    usual = {"user": 3, "year": 2001, "month": 5, "model": "autoint", "home": home}
    return ["recommend", *(text for name, value in (usual | options).items() for text in (f"--{name}", str(value)))]


def test_table(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(pipeline.home, k=4)) == 0
    heading, _, *rows = capsys.readouterr().out.rstrip("\n").split("\n")
    assert heading.split() == COLUMNS
    expected = get_recommendations(3, 2001, 5, "autoint", 4, home=pipeline.home)
    assert len(rows) == len(expected) == 4
    for row, movie in zip(rows, expected.to_dict("records"), strict=True):
        assert row.split()[:2] == [str(movie["rank"]), str(movie["movie_id"])]
        assert movie["title"] in row
        assert movie["genres"] in row
        assert row.split()[-1] == f"{movie['score']:.4f}"


def test_ten_movies_by_default(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments(pipeline.home), "--json"]) == 0
    assert [movie["rank"] for movie in json.loads(capsys.readouterr().out)] == list(range(1, 11))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("user", [1, 150, 300])
def test_json_equals_the_published_table(
    pipeline: Pipeline, moment: tuple[int, int], capsys: pytest.CaptureFixture[str], model: str, user: int
) -> None:
    year, month = moment
    assert main([*arguments(pipeline.home, user=user, year=year, month=month, model=model), "--json"]) == 0
    found = pd.DataFrame(json.loads(capsys.readouterr().out))
    assert list(found) == COLUMNS
    live = get_recommendations(user, year, month, model, home=pipeline.home)
    assert found[COLUMNS[:4]].to_dict("records") == live[COLUMNS[:4]].to_dict("records")
    assert found["score"].tolist() == pytest.approx(live["score"].tolist(), abs=1e-9)
    top = pipeline.table(f"top10_{model}")
    assert_same_list(found, top[top["user_id"] == user])


def test_other_moments_are_scored_live(pipeline: Pipeline, moment: tuple[int, int]) -> None:
    year, _ = moment
    now, then = (get_recommendations(3, y, 4, "autoint_mlp", home=pipeline.home) for y in (year - 1, year - 2))
    assert now["score"].tolist() != then["score"].tolist()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"user": 301}, "unknown user_id 301"),
        ({"year": 1999}, "unknown rating_year 1999"),
        ({"month": 13}, "unknown rating_month 13"),
        ({"model": "oracle"}, "no model 'oracle'"),
        ({"dataset": "films"}, "data set 'films'"),
    ],
)
def test_unknown_request(
    pipeline: Pipeline, capsys: pytest.CaptureFixture[str], options: dict[str, object], reason: str
) -> None:
    assert main(arguments(pipeline.home, **options)) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ")
    assert reason in printed.err
    assert printed.out == ""


def test_unknown_names_come_with_the_known_ones(pipeline: Pipeline, capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments(pipeline.home, model="oracle"))
    assert ", ".join(sorted(MODELS)) in capsys.readouterr().err
    main(arguments(pipeline.home, dataset="films"))
    assert DATASET in capsys.readouterr().err


def test_nothing_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(tmp_path)) == 1
    assert f"no model is published under {tmp_path}" in capsys.readouterr().err


def test_one_of_several_data_sets_must_be_chosen(
    pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for dataset in (DATASET, "films"):
        shutil.copytree(pipeline.home / "archive" / DATASET / "autoint", tmp_path / "archive" / dataset / "autoint")
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables" / DATASET).symlink_to(pipeline.tables)

    assert main(arguments(tmp_path)) == 1
    error = capsys.readouterr().err
    assert f"films, {DATASET}" in error
    assert "choose one" in error
    assert main(arguments(tmp_path, dataset=DATASET)) == 0


@pytest.mark.parametrize("k", ["0", "-1"])
def test_bad_length_is_refused(pipeline: Pipeline, capsys: pytest.CaptureFixture[str], k: str) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments(pipeline.home, k=k))
    assert caught.value.code == 2
    assert "--k" in capsys.readouterr().err
