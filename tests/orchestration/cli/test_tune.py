import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from filelock import FileLock
from mlflow.entities import Run

from ml.data.formats import RawTables
from ml.data.movielens_tables import preprocess_movies, preprocess_users
from ml.features.collaborative import CollaborativeConfig
from ml.features.collaborative_folds import CollaborativeFolds
from ml.features.feature_map import FeatureMap
from ml.features.splits import split_interactions
from ml.features.tables import join_interactions, preprocess_ratings
from ml.training.data import TrainingData
from ml.training.recipes import Recipe, load_recipes, with_values
from ml.training.reports import EpochReport
from orchestration.__main__ import main as command
from orchestration.cli import tune
from orchestration.resources.raw_data import RawData
from orchestration.tracking.resource import Tracking
from orchestration.tracking.tuning_run import TrialRun
from tests.collaborative import sides_of
from tests.environment import forget_settings
from tests.feature_maps import encode_interactions, fitted
from tests.orchestration.conftest import DATASET

RATE, LAYERS = "training.learning_rate", "model.num_layers"
EPOCHS = 2
PLAIN: dict[str, Any] = {
    "description": "For tests.",
    "architecture": "autoint",
    "fields": ["movie_year", "gender"],
    "model": {"embed_dim": 4, "num_layers": 1, "head_dim": 4},
    "training": {"epochs": EPOCHS, "batch_size": 256, "learning_rate": 1e-9},
}
SEARCHED = {**PLAIN, "search": {RATE: {"choices": [1e-9, 3e-3]}, LAYERS: {"low": 1, "high": 2}}}
RECIPES = {"searched": SEARCHED, "plain": PLAIN, "papers": {**SEARCHED, "protocol": "paper"}}
SIGNALS = {"factorizations": {"rating_2": {"factors": 2, "iterations": 1}}, "folds": 2}
RECIPES["with_signals"] = {**SEARCHED, "signals": SIGNALS}
RECIPES["with_moments"] = {**SEARCHED, "moments": ["session_position"]}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, small_raw: RawTables) -> Path:
    """A home with what a tuning reads of a materialization, of few rows."""
    home = tmp_path_factory.mktemp("template")
    tables = home / "tables"
    tables.mkdir()
    movies = preprocess_movies(small_raw.movies)
    joined = join_interactions(preprocess_users(small_raw.users), movies, preprocess_ratings(small_raw.ratings))
    feature_map = fitted(joined)
    encoded = encode_interactions(joined, feature_map)
    encoded.to_parquet(tables / "encoded_interactions.parquet", index=False)
    train = split_interactions(encoded)[0].head(3000)
    train.to_parquet(tables / "train_interactions.parquet", index=False)
    movies.to_parquet(tables / "movies.parquet", index=False)
    (tables / "feature_map.json").write_text(json.dumps(feature_map.to_dict()), encoding="utf-8")
    return home


@pytest.fixture(autouse=True)
def recipes_file(env: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    path = tmp_path / "recipes.yaml"
    path.write_text(yaml.safe_dump({"recipes": RECIPES}, sort_keys=False), encoding="utf-8")
    env.setenv("RECIPES_YAML", str(path))
    env.setenv("MOVIELENS_DIR", DATASET)
    return path


@pytest.fixture
def home_of(env: pytest.MonkeyPatch, template: Path, tmp_path: Path) -> Callable[..., Path]:
    """Go to a home of this name that has the tables."""

    def home_of(name: str, dataset: str = DATASET) -> Path:
        home = tmp_path / name
        shutil.copytree(template / "tables", home / "tables" / dataset)
        env.setenv("PIPELINE_HOME", str(home))
        return home

    return home_of


@pytest.fixture
def cheap(env: pytest.MonkeyPatch) -> None:
    """No training: the loss is the better the more layers there are and the higher the learning rate."""

    class Fitting:
        def __init__(self, recipe: Recipe, data: object) -> None:
            self._loss = 1 / recipe.model.num_layers - 10 * recipe.training.learning_rate

        def run(self, on_epoch: Callable[[EpochReport], None]) -> list[EpochReport]:
            reports = [EpochReport(epoch, EPOCHS, 2 / epoch, self._loss / epoch, 1, 1) for epoch in (1, 2)]
            for report in reports:
                on_epoch(report)
            return reports

    env.setattr("ml.training.tuning.Fitting", Fitting)
    env.setattr("keras.backend.clear_session", lambda: None)


def runs_of(dataset: str = DATASET) -> tuple[Run, list[Run]]:
    """The tuning's run, and those of its trials in the order of their start."""
    tracking = Tracking(raw_data=RawData.of(dataset))
    runs = tracking.client.search_runs([tracking.experiment_id()], order_by=["attributes.start_time ASC"])
    (parent,) = [run for run in runs if run.data.tags["kind"] == "tuning"]
    trials = [run for run in runs if run.data.tags["kind"] == "trial"]
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {parent.info.run_id}
    return parent, trials


def params(run: Run) -> tuple[float, int]:
    assert set(run.data.params) == {RATE, LAYERS}
    return float(run.data.params[RATE]), int(run.data.params[LAYERS])


def states(runs: list[Run]) -> list[tuple[str, str]]:
    return [(run.info.status, run.data.tags["state"]) for run in runs]


def printed_recipe(text: str) -> dict[str, Any]:
    return yaml.safe_load("recipes:" + text.split("\nrecipes:")[1].split("Recipe file:", maxsplit=1)[0])


def test_a_tuning_that_is_interrupted_goes_on(
    home_of: Callable[..., Path], cheap: None, env: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = home_of("whole")
    assert tune.main("searched", "3") == 0
    text = capsys.readouterr().out
    expected_parent, expected = runs_of()
    lines = [line for line in text.splitlines() if line.startswith("trial ")]
    assert [line.split(",")[0] for line in lines] == [f"trial {number} of 3: COMPLETE" for number in (1, 2, 3)]

    interrupted = home_of("interrupted")
    log_epoch, told = TrialRun.log_epoch, []

    def interrupt(self: TrialRun, report: EpochReport) -> None:
        told.append(report.epoch)
        if len(told) > EPOCHS:
            raise KeyboardInterrupt
        log_epoch(self, report)

    with env.context() as patch:
        patch.setattr(TrialRun, "log_epoch", interrupt)
        assert tune.main("searched", "3") == 130
    assert "the same command resumes" in capsys.readouterr().out
    stopped, trials = runs_of()
    assert stopped.info.status == "KILLED"
    assert states(trials) == [("FINISHED", "COMPLETE"), ("KILLED", "FAIL")]

    assert tune.main("searched", "3") == 0
    assert "1 of 3 trials are finished" in capsys.readouterr().out
    parent, trials = runs_of()
    assert parent.info.run_id == stopped.info.run_id
    assert parent.info.status == "FINISHED"
    assert params(trials[1]) == params(trials[2])
    repeated = [trials[0], *trials[2:]]
    assert states(repeated) == [("FINISHED", "COMPLETE")] * 3
    assert [params(run) for run in repeated] == [params(run) for run in expected]
    for run, other in zip([*repeated, parent], [*expected, expected_parent], strict=True):
        assert run.data.metrics == pytest.approx(other.data.metrics)

    best = load_recipes(whole / "tuning" / DATASET / "searched.yaml")
    assert load_recipes(interrupted / "tuning" / DATASET / "searched.yaml") == best
    assert best["searched"].model.num_layers == 2


def test_a_trained_trial_is_given_as_a_recipe_file(
    home_of: Callable[..., Path], capsys: pytest.CaptureFixture[str], recipes_file: Path, tmp_path: Path
) -> None:
    """The only test here that trains."""
    home = home_of("home")
    assert tune.main("searched", "1") == 0
    text = capsys.readouterr().out
    path = home / "tuning" / DATASET / "searched.yaml"
    assert f"Recipe file: {path}" in text
    parent, [trial] = runs_of()
    assert 0 < trial.data.metrics["best_val_loss"] < 1
    rate, layers = params(trial)
    own = load_recipes(recipes_file)["searched"]
    assert load_recipes(path) == {"searched": with_values(own, {RATE: rate, LAYERS: layers})}
    assert printed_recipe(text) == yaml.safe_load(path.read_text("utf-8"))
    tracking = Tracking(raw_data=RawData.of(DATASET))
    assert tracking.run_url(parent.info.run_id) in text
    artifact = tracking.client.download_artifacts(parent.info.run_id, "searched.yaml", str(tmp_path))
    assert Path(artifact).read_bytes() == path.read_bytes()


def test_rows_of_a_recipe_with_moments_have_them(
    home_of: Callable[..., Path], cheap: None, env: pytest.MonkeyPatch
) -> None:
    home_of("home")
    given: list[TrainingData] = []
    made = TrainingData.of

    def data_of(*arguments: Any) -> TrainingData:
        given.append(made(*arguments))
        return given[0]

    env.setattr("ml.training.data.TrainingData.of", data_of)
    assert tune.main("with_moments", "1") == 0
    [data] = given
    assert data.rows["session_position"].max() > 3
    assert data.inputs.positions == [3, 10, 14]


def test_trials_are_logged_then_only_shown_and_more_are_added(
    home_of: Callable[..., Path], cheap: None, env: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = home_of("home")
    assert tune.main("searched", "2") == 0
    first = printed_recipe(capsys.readouterr().out)
    parent, trials = runs_of()
    assert parent.info.run_name == "tune searched"
    assert (parent.data.tags["dataset"], parent.data.tags["model"]) == (DATASET, "searched")
    assert [run.info.run_name for run in trials] == ["trial 1", "trial 2"]
    assert params(trials[0]) == (1e-9, 1)
    client = Tracking(raw_data=RawData.of(DATASET)).client
    for name, values in (("train_loss", [2, 1]), ("val_loss", [1 - 1e-8, 0.5 - 5e-9])):
        history = client.get_metric_history(trials[0].info.run_id, name)
        assert [metric.step for metric in history] == [1, 2]
        assert [metric.value for metric in history] == pytest.approx(values)
    best = client.get_metric_history(parent.info.run_id, "best_val_loss")
    assert [metric.step for metric in best] == [1, 2]
    assert best[-1].value == min(run.data.metrics["best_val_loss"] for run in trials)

    with env.context() as patch:
        patch.setattr("ml.training.data.TrainingData.of", lambda *_: pytest.fail("nothing is left to be trained"))
        assert tune.main("searched", "2") == 0
    text = capsys.readouterr().out
    assert printed_recipe(text) == first
    assert "2 of 2 trials are finished" in text
    assert "\ntrial " not in text
    assert tune.main("searched", "3") == 0
    assert "trial 3 of 3: " in capsys.readouterr().out
    parent, trials = runs_of()
    assert (parent.info.status, len(trials)) == ("FINISHED", 3)
    assert len(list((home / "tuning" / DATASET).glob("*.db"))) == 1


def test_one_process_at_a_time_and_another_recipe_starts_another_study(
    home_of: Callable[..., Path], cheap: None, recipes_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = home_of("home")
    assert tune.main("searched", "1") == 0
    (path,) = (home / "tuning" / DATASET).glob("*.db")
    with FileLock(f"{path}.lock"):
        assert command(["tune", "searched", "2"]) == 1
    assert "another process" in capsys.readouterr().err
    changed = {**RECIPES, "searched": {**SEARCHED, "fields": ["gender"]}}
    recipes_file.write_text(yaml.safe_dump({"recipes": changed}), encoding="utf-8")
    forget_settings()  # a process of its own reads the file again
    assert tune.main("searched", "1") == 0
    assert len(list((home / "tuning" / DATASET).glob("searched-*.db"))) == 2


def test_an_error_ends_the_run_as_failed_and_the_trial_is_repeated(
    home_of: Callable[..., Path], cheap: None, env: pytest.MonkeyPatch
) -> None:
    home_of("home")
    with env.context() as patch:
        patch.setattr(TrialRun, "log_epoch", lambda self, report: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            tune.main("searched", "1")
    parent, trials = runs_of()
    assert parent.info.status == "FAILED"
    assert states(trials) == [("FAILED", "FAIL")]
    assert tune.main("searched", "1") == 0
    parent, trials = runs_of()
    assert parent.info.status == "FINISHED"
    assert states(trials) == [("FAILED", "FAIL"), ("FINISHED", "COMPLETE")]


def test_runs_of_a_killed_process_are_closed_and_a_deleted_one_is_replaced(
    home_of: Callable[..., Path], cheap: None
) -> None:
    home_of("home")
    assert tune.main("searched", "1") == 0
    parent, (trial,) = runs_of()
    tracking = Tracking(raw_data=RawData.of(DATASET))
    for run in (parent, trial):
        tracking.client.update_run(run.info.run_id, "RUNNING")
    assert tune.main("searched", "1") == 0
    parent, trials = runs_of()
    assert parent.info.status == "FINISHED"
    assert states(trials) == [("KILLED", "FAIL")]

    tracking.client.delete_run(parent.info.run_id)
    assert tune.main("searched", "1") == 0
    [run] = tracking.client.search_runs([tracking.experiment_id()], "tags.kind = 'tuning'")
    assert run.info.status == "FINISHED"
    assert run.info.run_id != parent.info.run_id


def test_collaborative_features_are_those_of_the_pipeline(
    home_of: Callable[..., Path], cheap: None, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = home_of("home") / "tables" / DATASET
    path = tables / "collaborative_features.npz"
    assert command(["tune", "with_signals", "1"]) == 1
    assert f"{path}: missing; run make run first" in capsys.readouterr().err
    train = pd.read_parquet(tables / "train_interactions.parquet")
    feature_map = FeatureMap.from_json((tables / "feature_map.json").read_bytes(), "feature map")
    sides = sides_of(train, feature_map)
    path.write_bytes(CollaborativeFolds.fit(train, sides, [CollaborativeConfig(folds=2)]).to_bytes())
    assert command(["tune", "with_signals", "1"]) == 1
    assert "collaborative features lack rating_2 (factorization" in capsys.readouterr().err
    signals = CollaborativeConfig.model_validate(SIGNALS)
    path.write_bytes(CollaborativeFolds.fit(train, sides, [signals]).to_bytes())
    assert tune.main("with_signals", "1") == 0
    path.write_bytes(b"nothing")
    assert command(["tune", "with_signals", "2"]) == 1
    assert f"{path}: not a file of collaborative features" in capsys.readouterr().err


def test_a_recipe_of_the_paper_is_tuned_on_the_paper_s_rows(home_of: Callable[..., Path], cheap: None) -> None:
    dataset = f"{DATASET}+paper"
    home = home_of("home", dataset)
    assert tune.main("papers", "1") == 0
    assert (home / "tuning" / dataset / "papers.yaml").exists()
    parent, _ = runs_of(dataset)
    assert parent.data.tags["dataset"] == dataset


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["RECIPE is missing", "searched, plain, papers, with_signals"]),
        (["", "20"], ["RECIPE is missing"]),
        (["autoint"], ["recipe 'autoint' is unknown", "searched, plain, papers, with_signals"]),
        (["plain"], ["recipes.yaml, recipes.plain", "search:", "training.learning_rate: {low"]),
        (["searched", "0"], ["TRIALS is '0'", "whole number"]),
        (["searched", "many"], ["TRIALS is 'many'"]),
        (["searched"], [f"tables/{DATASET}/train_interactions.parquet: missing", "make run", "MOVIELENS_DIR"]),
        (["with_signals"], ["train_interactions.parquet: missing"]),
        (["papers"], [f"tables/{DATASET}+paper/train_interactions.parquet: missing", "make paper"]),
    ],
)
def test_mistakes_are_explained(
    arguments: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(["tune", *arguments]) == 1
    text = capsys.readouterr().err
    for word in ("error: ", *words):
        assert word in text
    assert not (tmp_path / "home").exists()


def test_the_example_in_the_message_can_be_used(recipes_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["tune", "plain"]) == 1
    example = yaml.safe_load(capsys.readouterr().err.split("such as\n")[1])
    recipes_file.write_text(yaml.safe_dump({"recipes": {"plain": {**PLAIN, **example}}}), encoding="utf-8")
    assert set(load_recipes(recipes_file)["plain"].search) == {RATE, LAYERS}
