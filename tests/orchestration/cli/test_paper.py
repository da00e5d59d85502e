import json
from pathlib import Path

import dagster as dg
import pandas as pd
import pytest

from ml.inference.scorer import Scorer
from ml.models.bundle import ModelBundle
from orchestration.automation.jobs import PAPER_PROTOCOL
from orchestration.cli import paper
from orchestration.config.data_sets import add_partition
from orchestration.definitions import build_definitions
from orchestration.resources.raw_data import RawData
from orchestration.tracking.registered_version import RegisteredVersion
from orchestration.tracking.resource import Tracking
from tests.orchestration.conftest import ARCHITECTURE, DATASET, environment
from tests.orchestration.recipes import PAPER_MODELS, RECIPES

NAME = f"{DATASET}+paper"
SETTINGS = {"model": ARCHITECTURE, "training": {"batch_size": 256, "epochs": 2}}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the paper's job has run once."""
    home = tmp_path_factory.mktemp("paper")
    with environment({"PIPELINE_HOME": home, "MOVIELENS_CACHE": home / "cache"}), dg.instance_for_test() as instance:
        add_partition(instance, NAME)
        result = (
            build_definitions(dg.in_process_executor, with_paper=True)
            .resolve_job_def(PAPER_PROTOCOL)
            .execute_in_process(
                run_config={"ops": {model: {"config": SETTINGS} for model in PAPER_MODELS}},
                partition_key=NAME,
                instance=instance,
            )
        )
        assert result.success
    return home


def table(home: Path, name: str) -> pd.DataFrame:
    return pd.read_parquet(home / "tables" / NAME / f"{name}.parquet")


def test_recipes_are_the_paper_s() -> None:
    for model in PAPER_MODELS:
        recipe = RECIPES[model]
        assert set(recipe.fields) == {"gender", "age", "occupation", "zip", "movie_year"}
        assert (recipe.multivalued, recipe.numbers, recipe.signals) == (("genres",), ("timestamp",), None)
        assert (recipe.model.num_layers, recipe.model.num_heads, recipe.model.layer_norm) == (3, 2, True)
        assert (recipe.model.attention_dropout, recipe.model.embedding_dropout) == (0.4, 0.1)
        assert (recipe.training.learning_rate, recipe.training.batch_size) == (1e-3, 1024)
        assert recipe.training.patience


@pytest.mark.slow
def test_neutral_ratings_are_left_out_and_the_rest_is_split_8_1_1(home: Path) -> None:
    train, test, everything = (table(home, f"{part}_interactions") for part in ("train", "test", "encoded"))
    kept = everything[everything["rating"] != 3]
    assert 0 < len(kept) < len(everything)
    assert sorted([*train["row"], *test["row"]]) == kept.index.tolist()
    assert len(test) == -(-len(kept) // 10)
    validation = len(train) - int(len(train) * (1 - RECIPES[PAPER_MODELS[0]].training.validation_share))
    assert validation == pytest.approx(len(kept) / 10, abs=2)


@pytest.mark.slow
def test_only_the_paper_s_models_are_trained_and_nothing_is_published(home: Path) -> None:
    evaluation = table(home, "evaluation")
    assert set(evaluation["model"]) == {*PAPER_MODELS, "random", "movie_mean", "matrix_factorization", "ceiling"}
    assert not (home / "archive").exists()
    assert [path.name for path in (home / "tables").iterdir()] == [NAME]


@pytest.mark.slow
@pytest.mark.parametrize("model", PAPER_MODELS)
def test_the_registered_version_gives_the_measured_scores(home: Path, env: pytest.MonkeyPatch, model: str) -> None:
    env.setenv("PIPELINE_HOME", str(home))
    version = RegisteredVersion(**json.loads((home / "tables" / NAME / f"{model}.json").read_text()))
    bundle = Tracking(raw_data=RawData.of(NAME)).load_bundle(version)
    assert isinstance(bundle, ModelBundle)
    assert bundle.numbers == ("timestamp",)
    scores = Scorer(bundle).score_encoded(table(home, "test_interactions"))
    assert scores.tolist() == pytest.approx(table(home, f"{model}_scores")["score"].tolist(), abs=1e-6)


def evaluation_of(auc: float, log_loss: float) -> pd.DataFrame:
    rows = [
        (model, metric, value) for model in PAPER_MODELS for metric, value in (("auc", auc), ("log_loss", log_loss))
    ]
    return pd.DataFrame([*rows, ("random", "auc", 0.5)], columns=["model", "metric", "value"])


def test_summary_has_means_and_sample_deviations() -> None:
    found = paper.summary([evaluation_of(0.8, 0.4), evaluation_of(0.9, 0.4), evaluation_of(0.7, 0.1)])
    assert list(found) == list(PAPER_MODELS)
    assert found[PAPER_MODELS[0]]["auc"] == pytest.approx({"mean": 0.8, "sd": 0.1})
    assert found[PAPER_MODELS[0]]["log_loss"] == pytest.approx({"mean": 0.3, "sd": 0.03**0.5})


def test_make_paper_runs_every_seed_and_writes_the_file(
    env: pytest.MonkeyPatch, tmp_path: Path, small_raw_directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    env.setenv("MOVIELENS_DIR", str(small_raw_directory))
    seeds: list[tuple[str, str]] = []
    env.setattr(paper, "run_job", lambda raw_data, option, seed: seeds.append((option, seed)) or 0)
    env.setattr(paper, "read_evaluation", lambda raw_data: evaluation_of(0.8 + int(seeds[-1][1]) / 100, 0.4))
    assert paper.main() == 0
    assert seeds == [("--seed", "1"), ("--seed", "2"), ("--seed", "3")]
    written = json.loads((tmp_path / "home" / "bench" / "paper.json").read_text())
    assert written[PAPER_MODELS[0]]["auc"] == pytest.approx({"mean": 0.82, "sd": 0.01})
    assert "0.8456" in capsys.readouterr().out


def test_make_paper_stops_at_a_failed_run(env: pytest.MonkeyPatch, tmp_path: Path, small_raw_directory: Path) -> None:
    env.setenv("MOVIELENS_DIR", str(small_raw_directory))
    env.setattr(paper, "run_job", lambda raw_data, option, seed: int(seed == "2"))
    env.setattr(paper, "read_evaluation", lambda raw_data: evaluation_of(0.8, 0.4))
    assert paper.main() == 1
    assert not (tmp_path / "home" / "bench").exists()
