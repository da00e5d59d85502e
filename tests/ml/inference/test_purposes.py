from pathlib import Path

import pandas as pd
import pytest
from upath import UPath

from ml.errors import NotFoundError
from ml.inference.purposes import SENTENCES, Purpose, default_model, purposes_of
from tests.published_home import write_tables


def evaluation(**figures: tuple[float, float]) -> pd.DataFrame:
    """Of models with NDCG over the catalogue and AUC, beside a metric that says nothing here."""
    rows = [
        (model, metric, value)
        for model, (ndcg, auc) in figures.items()
        for metric, value in (("catalogue_ndcg_at_10", ndcg), ("auc", auc), ("ndcg_at_10", 0.9))
    ]
    return pd.DataFrame(rows, columns=["model", "metric", "value"])


def test_purposes_on_movielens_1m() -> None:
    # Figures of docs/results.md; EASE is a baseline, which nobody can ask.
    measured = evaluation(
        autoint=(0.058, 0.788),
        autoint_mlp=(0.056, 0.788),
        autoint_collaborative=(0.164, 0.829),
        autoint_catalogue=(0.395, 0.704),
        ease=(0.376, 0.9),
    )
    models = ["autoint", "autoint_catalogue", "autoint_collaborative", "autoint_mlp"]
    assert list(purposes_of(models, measured).items()) == [
        ("autoint_catalogue", Purpose.NEXT),
        ("autoint_collaborative", Purpose.LIKES),
        ("autoint", Purpose.COMPARISON),
        ("autoint_mlp", Purpose.COMPARISON),
    ]


def test_own_recipe_takes_the_place_that_its_figures_give_it() -> None:
    measured = evaluation(autoint_catalogue=(0.395, 0.704), mine=(0.4, 0.9))
    assert purposes_of(["autoint_catalogue", "mine"], measured) == {
        "mine": Purpose.BOTH,
        "autoint_catalogue": Purpose.COMPARISON,
    }


def test_unmeasured_models_come_last_by_name() -> None:
    measured = evaluation(b=(0.1, float("nan")), a=(float("nan"), float("nan")))
    assert list(purposes_of(["c", "b", "a"], measured).items()) == [
        ("b", Purpose.NEXT),
        ("a", Purpose.UNMEASURED),
        ("c", Purpose.UNMEASURED),
    ]


def test_without_an_evaluation_the_first_name_answers(tmp_path: Path) -> None:
    (tmp_path / "models" / "small").mkdir(parents=True)
    with pytest.raises(NotFoundError, match="no model of data set 'small' is published"):
        default_model(UPath(tmp_path), "small")
    for name in ("b", "a"):
        (tmp_path / "models" / "small" / f"{name}.zip").touch()
    assert default_model(UPath(tmp_path), "small") == "a"
    write_tables(tmp_path, {"evaluation": evaluation(a=(0.1, 0.9), b=(0.2, 0.8))})
    assert default_model(UPath(tmp_path), "small") == "b"


def test_every_purpose_has_a_sentence() -> None:
    assert set(SENTENCES) == set(Purpose)
    assert len(set(SENTENCES.values())) == len(Purpose)
