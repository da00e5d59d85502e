from pathlib import Path

import numpy as np
import pytest

from ml.inference.scorer import Scorer
from orchestration.__main__ import main
from tests import plain_tensorflow
from tests.orchestration.conftest import DATASET, Pipeline
from tests.orchestration.recipes import MODELS
from tests.stored import stored_interactions


def test_champions_of_all_recipes(pipeline: Pipeline, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = stored_interactions(pipeline.tables).sample(100, random_state=1)
    rows = rows.rename(columns={"rating_year": "year", "rating_month": "month"})
    pairs = rows[["user_id", "movie_id", "year", "month"]]
    folders = {model: tmp_path / "models" / DATASET / model / "1" for model in MODELS}
    for model, folder in folders.items():
        assert main(["export", model, "", str(tmp_path / "models")]) == 0
        told = capsys.readouterr().out
        assert told == f"{model} of {DATASET}: version 1 is a SavedModel in {folder}\n"
    found = plain_tensorflow.scores([(folder, pairs) for folder in folders.values()])
    for model, scores in zip(folders, found, strict=True):
        expected = Scorer(pipeline.bundle(model)).score_pairs(pairs)
        assert np.ptp(expected) > 0.01
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6)


def test_by_default_it_lies_in_the_home_and_is_not_overwritten(
    own_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "autoint"]) == 0
    folder = own_home / "exports" / DATASET / "autoint" / "1"
    assert (folder / "saved_model.pb").is_file()
    assert main(["export", "autoint", DATASET]) == 1
    assert f"error: {folder} exists already; delete it first" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["pop"], f"MODEL='pop'; expected one of {', '.join(sorted(MODELS))}"),
        (["autoint", "films"], f"DATASET='films'; expected one of {DATASET}"),
        (["autoint", "", "s3://models"], "TO='s3://models'; expected a local directory"),
    ],
)
def test_what_cannot_be_exported(
    pipeline: Pipeline, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", *arguments]) == 1
    assert message in capsys.readouterr().err
