import json
import math
from pathlib import Path

import pytest
from upath import UPath

from ml.errors import NotFoundError
from ml.published.purposes import SENTENCES, Purpose, default_model, purposes_of
from tests.published_home import DATASET, archive, point_to


def figures(ndcg: float, auc: float) -> dict[str, float]:
    return {"catalogue_ndcg_at_10": ndcg, "auc": auc, "ndcg_at_10": 0.9}


def test_purposes_on_movielens_1m() -> None:
    # Figures of docs/results.md.
    measured = {
        "autoint": figures(0.058, 0.788),
        "autoint_mlp": figures(0.056, 0.788),
        "autoint_collaborative": figures(0.164, 0.829),
        "autoint_catalogue": figures(0.395, 0.704),
    }
    assert list(purposes_of(measured).items()) == [
        ("autoint_catalogue", Purpose.NEXT),
        ("autoint_collaborative", Purpose.LIKES),
        ("autoint", Purpose.COMPARISON),
        ("autoint_mlp", Purpose.COMPARISON),
    ]


def test_own_recipe_takes_the_place_that_its_figures_give_it() -> None:
    measured = {"autoint_catalogue": figures(0.395, 0.704), "mine": figures(0.4, 0.9)}
    assert purposes_of(measured) == {"mine": Purpose.BOTH, "autoint_catalogue": Purpose.COMPARISON}


def test_unmeasured_models_come_last_by_name() -> None:
    measured = {"c": {}, "b": {"catalogue_ndcg_at_10": 0.1}, "a": figures(math.nan, math.nan)}
    assert list(purposes_of(measured).items()) == [
        ("b", Purpose.NEXT),
        ("a", Purpose.UNMEASURED),
        ("c", Purpose.UNMEASURED),
    ]


def test_metrics_are_those_of_the_champions(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no model of data set 'small' is published"):
        default_model(UPath(tmp_path), DATASET)
    for name, ndcg in (("a", 0.1), ("b", 0.2)):
        for version, value in (("1", ndcg), ("2", 1 - ndcg)):  # version 2 was champion before
            folder = archive(tmp_path, name) / version
            folder.mkdir(parents=True)
            (folder / "version.json").write_text(json.dumps({"metrics": figures(value, 0.5)}))
        point_to(tmp_path, name, "2", "1")
    assert default_model(UPath(tmp_path), DATASET) == "b"


def test_every_purpose_has_a_sentence() -> None:
    assert set(SENTENCES) == set(Purpose)
    assert len(set(SENTENCES.values())) == len(Purpose)
