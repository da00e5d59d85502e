import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import dagster as dg
import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from mlflow.entities import Run

from ml.features.feature_map import FeatureMap
from ml.files import digest
from ml.inference.scorer import Scorer
from ml.training.recipes import Recipe
from orchestration.config.data_sets import register
from orchestration.config.launch_config import with_settings
from orchestration.config.settings import PROJECT_ROOT
from orchestration.resources.raw_data import RawData
from orchestration.tracking import registry
from orchestration.tracking.registered_version import RegisteredVersion
from orchestration.tracking.registry import server_command
from orchestration.tracking.resource import Tracking
from tests.orchestration.conftest import (
    ARCHITECTURE,
    DATASET,
    EPOCHS,
    LIST_METRICS,
    METRICS,
    TRAINING,
    Pipeline,
    environment,
)
from tests.orchestration.recipes import MODELS, RECIPES
from tests.stored import stored_interactions
from tests.waiting import free_port, until

NAMES = {model: f"{DATASET}-{model.replace('_', '-')}" for model in MODELS}
# Run where nothing knows of this project: what MLflow stored must be enough.
SCORE = """
import importlib.util, json, sys
from pathlib import Path

root, uri, folder, *names = sys.argv[1:]
sys.path = [entry for entry in sys.path if entry != root]
sys.meta_path = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
assert importlib.util.find_spec("ml") is None and importlib.util.find_spec("orchestration") is None

import mlflow, pandas

mlflow.set_tracking_uri(uri)
found = {}
for name in names:
    model = mlflow.pyfunc.load_model(f"models:/{name}@champion")
    pairs, rows = (pandas.read_parquet(Path(folder, f"{form}.parquet")) for form in ("pairs", "rows"))
    found[name] = {form: model.predict(frame)["score"].tolist() for form, frame in (("pairs", pairs), ("rows", rows))}
import ml
found["package"] = ml.__file__
Path(folder, "found.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def runs(materialized: Pipeline) -> dict[str, Run]:
    """The MLflow run of each model."""
    with environment({"PIPELINE_HOME": materialized.home}):
        client = Tracking(raw_data=RawData.of(DATASET)).client
        experiment = client.get_experiment_by_name(f"movie-recommender-{DATASET}")
        return {run.data.tags["model"]: run for run in client.search_runs([experiment.experiment_id])}


@pytest.fixture
def films(pipeline: Pipeline, tmp_path: Path) -> Tracking:
    """Tracking of another data set in the same database, where tests may leave runs."""
    return Tracking(raw_data=RawData.of(register(str(tmp_path / f"films{tmp_path.name}"))))


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_one_finished_run_a_model(pipeline: Pipeline, tracking: Tracking, runs: dict[str, Run]) -> None:
    found = tracking.client.search_runs([tracking.experiment_id()])
    assert sorted(run.data.tags["model"] for run in found) == sorted(MODELS)
    assert {run.info.status for run in found} == {"FINISHED"}
    assert {run.info.run_id for run in found} == {pipeline.document(model)["run_id"] for model in MODELS}


def test_losses_of_every_epoch(tracking: Tracking, pipeline: Pipeline, runs: dict[str, Run], model: str) -> None:
    for name in ("train_loss", "val_loss"):
        history = tracking.client.get_metric_history(runs[model].info.run_id, name)
        assert sorted(metric.step for metric in history) == list(range(1, EPOCHS + 1))
        losses = [metric.value for metric in sorted(history, key=lambda metric: metric.step)]
        assert losses == sorted(losses, reverse=True)


def test_final_metrics_have_the_same_names(pipeline: Pipeline, runs: dict[str, Run], model: str) -> None:
    evaluation = pipeline.table("evaluation")
    expected = evaluation[evaluation["model"] == model].set_index("metric")["value"].to_dict()
    found = {name: value for name, value in runs[model].data.metrics.items() if not name.startswith("system/")}
    assert set(found) == METRICS | LIST_METRICS | {"train_loss", "val_loss"}
    assert {name: found[name] for name in METRICS | LIST_METRICS} == pytest.approx(expected)


def test_final_metrics_of_the_logged_model(pipeline: Pipeline, tracking: Tracking, model: str) -> None:
    logged = tracking.client.get_logged_model(pipeline.document(model)["model_id"])
    assert {metric.key for metric in logged.metrics} >= METRICS | LIST_METRICS


def test_params(pipeline: Pipeline, runs: dict[str, Run], model: str) -> None:
    params = runs[model].data.params
    given = {name: str(value) for name, value in (TRAINING | ARCHITECTURE).items()}
    assert {name: params[name] for name in given} == given
    assert {"seed", "validation_share", "num_heads", "use_residual", "architecture", "fields"} <= set(params)
    with_signals = model in ("autoint_collaborative", "autoint_catalogue")
    assert params.get("signals.bayesian.bayesian_rating.factors") == ("15" if with_signals else None)
    assert params.get("negatives.per_positive") == ("5" if model == "autoint_catalogue" else None)
    assert ("dropout" in params) == (model == "autoint_mlp")
    trained = pipeline.bundle(model).network.trainable_variables
    assert int(params["parameters"]) == sum(math.prod(weight.shape) for weight in trained)


def git_commit() -> str | None:
    command = ["git", "-C", str(PROJECT_ROOT), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def test_tags(pipeline: Pipeline, runs: dict[str, Run], model: str) -> None:
    tags = runs[model].data.tags
    assert tags["dataset"] == DATASET
    assert tags["model"] == tags["dagster.asset_key"] == model
    assert tags["dagster.run_id"] == pipeline.run_id
    assert tags["dagster.job"] == "recommender_pipeline"
    assert tags["dagster.retry_number"] == "0"
    commit = tags.get("git_commit")
    assert (commit and commit.removesuffix("-dirty")) == git_commit()


def test_descriptions_say_what_it_is_and_lead_back(
    pipeline: Pipeline, tracking: Tracking, runs: dict[str, Run], model: str
) -> None:
    page = f"http://127.0.0.1:3000/runs/{pipeline.run_id}"
    description = RECIPES[model].description
    rows = len(pipeline.table("train_interactions"))
    note = runs[model].data.tags["mlflow.note.content"]
    assert note.startswith(f"{description} Trained on {rows:,} rows of {DATASET}.")
    assert f"[Dagster run]({page})" in note
    version = RegisteredVersion(**pipeline.document(model))
    registered = tracking.client.get_registered_model(version.registered_model)
    assert registered.description.startswith(description)
    assert "champion" in registered.description
    found = tracking.client.get_model_version(version.registered_model, version.version)
    assert found.description == f"{description} Weights of epoch {EPOCHS}. [Dagster run]({page}) of the asset {model}."
    assert found.tags["dagster.url"] == page


def test_data_set_is_logged_as_input(pipeline: Pipeline, runs: dict[str, Run], model: str) -> None:
    (logged,) = runs[model].inputs.dataset_inputs
    assert logged.dataset.name == DATASET
    assert [(tag.key, tag.value) for tag in logged.tags] == [("mlflow.data.context", "training")]
    assert json.loads(logged.dataset.profile)["num_rows"] == len(pipeline.table("train_interactions"))


def test_artifacts(pipeline: Pipeline, tracking: Tracking, runs: dict[str, Run], model: str, tmp_path: Path) -> None:
    run_id = runs[model].info.run_id
    names = {artifact.path for artifact in tracking.client.list_artifacts(run_id)}
    pictures = {"attention.png", "comparison.png", "loss_curve.png", "reliability.png"}
    assert names == {*pictures, "attention.json", "feature_map.json", "recipe.yaml"}
    paths = {name: Path(tracking.client.download_artifacts(run_id, name, str(tmp_path))) for name in names}
    assert json.loads(paths["feature_map.json"].read_text("utf-8")) == pipeline.document("feature_map")
    for picture in pictures:
        assert paths[picture].read_bytes().startswith(b"\x89PNG\r\n")
    followed = Recipe(**yaml.safe_load(paths["recipe.yaml"].read_text("utf-8")))
    features = FeatureMap.from_dict(pipeline.document("feature_map"))
    assert followed == with_settings(RECIPES[model], {"model": ARCHITECTURE, "training": TRAINING}).within(features)
    assert runs[model].info.artifact_uri == f"mlflow-artifacts:/{DATASET}/{run_id}/artifacts"
    assert (pipeline.home / "mlflow-artifacts" / DATASET / run_id / "artifacts" / "recipe.yaml").exists()


def test_attention_maps_are_of_the_embedded_features(pipeline: Pipeline, tracking: Tracking, model: str) -> None:
    document = tracking.attention_of(RegisteredVersion(**pipeline.document(model)))
    assert document is not None
    features = RECIPES[model].within(FeatureMap.from_dict(pipeline.document("feature_map"))).fields
    assert tuple(document["features"][: len(features)]) == features
    count = len(document["features"])
    assert (count > len(features)) == (RECIPES[model].signals is not None)
    weights = np.array(document["weights"])
    assert weights.shape == (ARCHITECTURE["num_layers"], ARCHITECTURE.get("num_heads", 2), count, count)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-4 * count)


def test_lists_hold_nothing_empty_and_nothing_twice(
    pipeline: Pipeline, tracking: Tracking, runs: dict[str, Run]
) -> None:
    assert [experiment.name for experiment in tracking.client.search_experiments()] == [f"movie-recommender-{DATASET}"]
    assert {run.info.run_name for run in runs.values()} == {f"{name} version 1" for name in MODELS}


def test_registry_follows_mlflow_yaml(pipeline: Pipeline, tracking: Tracking, model: str) -> None:
    document = yaml.safe_load((PROJECT_ROOT / "mlflow.yaml").read_text("utf-8"))
    name = document["registered_models"]["default"].format(dataset=DATASET, recipe=model.replace("_", "-"))
    assert name == NAMES[model]
    assert document["aliases"] == {"trained": "challenger", "published": "champion"}
    assert {registered.name for registered in tracking.client.search_registered_models()} == set(NAMES.values())
    versions = tracking.client.search_model_versions(f"name = '{name}'")
    assert [str(version.version) for version in versions] == ["1"]
    registered = tracking.client.get_registered_model(name)
    assert {alias: str(version) for alias, version in registered.aliases.items()} == {
        "challenger": "1",
        "champion": "1",
    }


def test_version_tags(pipeline: Pipeline, tracking: Tracking, runs: dict[str, Run], model: str) -> None:
    version = tracking.client.get_model_version(NAMES[model], "1")
    expected = {"dataset": DATASET, "model": model, "dagster.run_id": pipeline.run_id, "last_batch": "0"}
    expected["computed_by"] = "this machine"
    expected["dagster.url"] = f"http://127.0.0.1:3000/runs/{pipeline.run_id}"
    if "git_commit" in runs[model].data.tags:
        expected["git_commit"] = runs[model].data.tags["git_commit"]
    fingerprints = {f"fingerprint{part}" for part in ("", ".data", ".code", ".recipe")}
    expected |= {"epoch": "3", "bundle_digest": digest(pipeline.bundle_path(model).read_bytes())}
    assert {tag: value for tag, value in version.tags.items() if tag not in fingerprints} == expected
    assert {tag: version.tags[tag] for tag in fingerprints} == {tag: runs[model].data.tags[tag] for tag in fingerprints}
    assert version.run_id == runs[model].info.run_id


@pytest.fixture(scope="module")
def pairs_and_rows(materialized: Pipeline) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same interactions in both forms of the registered model's input, raw and unencoded."""
    interactions = stored_interactions(materialized.tables).iloc[::150]
    pairs = interactions[["user_id", "movie_id"]].astype("int64")
    pairs = pairs.assign(year=interactions["rating_year"], month=interactions["rating_month"]).astype("int64")
    fields = [field["name"] for field in materialized.document("feature_map")["fields"]]
    return pairs.reset_index(drop=True), interactions[fields].reset_index(drop=True)


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def registered(
    pipeline: Pipeline, tracking: Tracking, env: pytest.MonkeyPatch, model: str
) -> Iterator[mlflow.pyfunc.PyFuncModel]:
    """A champion as MLflow loads it."""
    env.setattr(sys, "path", [*sys.path])  # MLflow adds the model's own code
    with tracking.session():
        yield mlflow.pyfunc.load_model(f"models:/{NAMES[model]}@champion")


def test_registered_model_scores_as_the_published_one(
    pipeline: Pipeline,
    registered: mlflow.pyfunc.PyFuncModel,
    pairs_and_rows: tuple[pd.DataFrame, pd.DataFrame],
    model: str,
) -> None:
    pairs, rows = pairs_and_rows
    scorer = Scorer(pipeline.bundle(model))
    scores = {form: registered.predict(frame)["score"] for form, frame in (("pairs", pairs), ("rows", rows))}
    np.testing.assert_allclose(scores["pairs"], scorer.score_pairs(pairs), atol=1e-6)
    np.testing.assert_allclose(scores["rows"], scorer.score_rows(rows), atol=1e-6)
    np.testing.assert_allclose(scores["rows"], scores["pairs"], atol=1e-6)  # two ways to say the same
    assert np.std(scores["pairs"]) > 0.01
    for column in pairs:
        with pytest.raises(Exception, match=column):
            registered.predict(pairs.drop(columns=column))


@pytest.mark.slow
def test_registered_models_bring_their_own_code(
    pipeline: Pipeline, pairs_and_rows: tuple[pd.DataFrame, pd.DataFrame], tmp_path: Path
) -> None:
    """In a fresh process that knows nothing but the tracking server's address."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for form, frame in zip(("pairs", "rows"), pairs_and_rows, strict=True):
        frame.to_parquet(folder / f"{form}.parquet")
    port = free_port()
    serve = server_command("--host", "127.0.0.1", "--port", str(port))
    variables = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PIPELINE_HOME")}
    command = [sys.executable, "-I", "-c", SCORE, str(PROJECT_ROOT), f"http://127.0.0.1:{port}", str(folder)]
    with (folder / "server.log").open("wb") as log:
        quiet = {**variables, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        server = subprocess.Popen(serve, cwd=folder, env=quiet, stdout=log, stderr=log, start_new_session=True)
    try:
        until(lambda: answers(port))
        finished = subprocess.run(
            [*command, *NAMES.values()], cwd=folder, env=variables, capture_output=True, text=True, check=False
        )
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
    assert finished.returncode == 0, finished.stderr
    found: dict[str, Any] = json.loads((folder / "found.json").read_text("utf-8"))
    package = Path(found["package"])
    assert package.name == "__init__.py"
    assert pipeline.home not in package.parents  # it came from the server
    assert PROJECT_ROOT not in package.parents
    pairs, rows = pairs_and_rows
    for model, name in NAMES.items():
        scorer, scores = Scorer(pipeline.bundle(model)), found[name]
        np.testing.assert_allclose(scores["pairs"], scorer.score_pairs(pairs), atol=1e-6)
        np.testing.assert_allclose(scores["rows"], scorer.score_rows(rows), atol=1e-6)


@pytest.mark.parametrize("model", MODELS)
def test_the_published_bundle_is_the_logged_file(pipeline: Pipeline, tracking: Tracking, model: str) -> None:
    version = RegisteredVersion(**pipeline.document(model))
    [logged] = (pipeline.home / "mlflow-artifacts" / DATASET / "models" / version.model_id).rglob("bundle.zip")
    [copy] = (pipeline.home / "bundles" / DATASET / model).iterdir()
    assert pipeline.bundle_path(model).read_bytes() == logged.read_bytes() == copy.read_bytes()
    assert copy.stem == version.model_id


@pytest.mark.parametrize("before", [None, "http://tracking.example"])
@pytest.mark.parametrize("fails", [False, True])
def test_session_leaves_no_trace(
    pipeline: Pipeline, tracking: Tracking, env: pytest.MonkeyPatch, before: str | None, fails: bool
) -> None:
    outside = mlflow.get_tracking_uri()
    if before:
        env.setenv("MLFLOW_TRACKING_URI", before)
        env.setattr(registry, "_require_access", lambda uri: None)  # there is no such server
    with pytest.raises(RuntimeError) if fails else nullcontext(), tracking.session():
        assert mlflow.get_tracking_uri() == (before or f"sqlite:///{pipeline.home}/mlflow.db")
        if fails:
            raise RuntimeError
    assert os.environ.get("MLFLOW_TRACKING_URI") == before
    assert before or mlflow.get_tracking_uri() == outside


def test_a_run_leaves_no_environment_variable(films: Tracking, instance: dg.DagsterInstance) -> None:
    before = dict(os.environ)
    assert track(films, instance, lambda context: None).success
    assert {name for name in os.environ if name.startswith("MLFLOW")} == {n for n in before if n.startswith("MLFLOW")}


def track(
    tracking: Tracking,
    instance: dg.DagsterInstance,
    before: Callable[[dg.AssetExecutionContext], None],
    inside: Callable[[], None] = lambda: None,
) -> dg.ExecuteInProcessResult:
    """Materialize the smallest asset that logs a run."""

    @dg.asset
    def autoint(context: dg.AssetExecutionContext) -> None:
        before(context)
        with tracking.run(context, "autoint") as run:
            run.log_epoch(1, train_loss=0.5)
            inside()

    return dg.materialize([autoint], instance=instance, raise_on_error=False)


def statuses(tracking: Tracking) -> Iterator[str]:
    return (run.info.status for run in tracking.client.search_runs([tracking.experiment_id()]))


def test_the_machine_s_load_is_logged(films: Tracking, instance: dg.DagsterInstance, env: pytest.MonkeyPatch) -> None:
    env.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.1")
    assert track(films, instance, lambda context: None, lambda: time.sleep(0.5)).success
    [run] = films.client.search_runs([films.experiment_id()])
    assert {"system/cpu_utilization_percentage", "system/system_memory_usage_megabytes"} <= set(run.data.metrics)


def test_run_that_raises_ends_failed(films: Tracking, instance: dg.DagsterInstance) -> None:
    def explode() -> None:
        raise RuntimeError("boom")

    assert not track(films, instance, lambda context: None, explode).success
    assert list(statuses(films)) == ["FAILED"]
    assert mlflow.active_run() is None
    assert track(films, instance, lambda context: None).success
    assert sorted(statuses(films)) == ["FAILED", "FINISHED"]


def test_run_that_is_cancelled_ends_killed(films: Tracking, instance: dg.DagsterInstance) -> None:
    def cancel() -> None:
        raise dg.DagsterExecutionInterruptedError

    assert not track(films, instance, lambda context: None, cancel).success
    assert list(statuses(films)) == ["KILLED"]
    assert mlflow.active_run() is None


def test_run_of_a_killed_attempt_is_closed(films: Tracking, instance: dg.DagsterInstance) -> None:
    left: dict[str, str] = {}

    def leave_running(context: dg.AssetExecutionContext) -> None:
        mine = {"dagster.run_id": context.run.run_id, "dagster.asset_key": "autoint"}
        others = {"dagster.asset_key": "autoint_mlp"}, {"dagster.run_id": "another"}
        for name, tags in zip(("mine", "other asset", "other run"), (mine, *(mine | o for o in others)), strict=True):
            run = films.client.create_run(films.experiment_id(), tags=tags)
            left[name] = run.info.run_id

    assert track(films, instance, leave_running).success
    found = {name: films.client.get_run(run_id).info.status for name, run_id in left.items()}
    assert found == {"mine": "KILLED", "other asset": "RUNNING", "other run": "RUNNING"}
    assert sorted(statuses(films)) == ["FINISHED", "KILLED", "RUNNING", "RUNNING"]


def test_data_sets_have_experiments_of_their_own(films: Tracking, tracking: Tracking, pipeline: Pipeline) -> None:
    mine, other = films.experiment_id(), tracking.experiment_id()
    assert mine != other
    assert films.experiment_id() == mine
    assert films.client.get_experiment(mine).tags["dataset"] == films.dataset
    assert films.client.get_experiment(mine).artifact_location == f"mlflow-artifacts:/{films.dataset}"


def test_links_lead_to_the_ui(pipeline: Pipeline, tracking: Tracking, env: pytest.MonkeyPatch) -> None:
    env.setenv("MLFLOW_PORT", "5055")
    experiment = tracking.experiment_id()
    assert (
        tracking.run_url("abc")
        == f"http://127.0.0.1:5055/#/experiments/{experiment}/runs/abc?workflowType=machine_learning"
    )
    versions = [RegisteredVersion(**pipeline.document(model)) for model in MODELS[:2]]
    address = urlsplit(tracking.comparison_url(versions).replace("/#/", "/"))
    asked = parse_qs(address.query)
    assert address.path == "/metric"
    assert json.loads(asked["runs"][0]) == [version.run_id for version in versions]
    assert json.loads(asked["plot_metric_keys"][0]) == ["train_loss", "val_loss"]
    assert asked["workflowType"] == ["machine_learning"]
