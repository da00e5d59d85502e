"""The whole pipeline, materialized once for all tests, and an environment that nothing outside can reach into."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
import yaml
from filelock import FileLock
from matplotlib.figure import Figure
from upath import UPath

from ml.files import digest
from ml.models.bundle import ModelBundle
from ml.published.champions import ModelArchive
from orchestration.automation.jobs import PIPELINE
from orchestration.config.data_sets import add_partition
from orchestration.config.settings import Settings
from orchestration.definitions import build_definitions
from orchestration.resources.raw_data import RawData
from orchestration.resources.storage import Storage
from orchestration.tracking import registry
from orchestration.tracking.resource import Tracking
from tests.environment import Environment
from tests.orchestration.recipes import MODELS

DATASET = "synthetic-small"
EPOCHS = 3
TRAINING = {"batch_size": 256, "learning_rate": 3e-3, "epochs": EPOCHS}
ARCHITECTURE = {"embed_dim": 8, "num_layers": 1, "head_dim": 4}
RUN_CONFIG = {"ops": {model: {"config": {"model": ARCHITECTURE, "training": TRAINING}} for model in MODELS}}
METRICS = {
    "ndcg_at_10", "recall_at_10", "hit_rate_at_10", "ndcg_at_10_reference", "recall_at_10_reference", "auc", "log_loss",
    "expected_calibration_error",
}  # fmt: skip
_OF_LISTS = (
    "ndcg", "recall", "hit_rate", "coverage", "mean_popularity", "list_overlap", "list_similarity", "unbiased_recall",
)  # fmt: skip
LIST_METRICS = {f"catalogue_{name}_at_10" for name in _OF_LISTS}
# On the small data the recipes learn too little for the project's own gates.
LENIENT = Path(__file__).with_name("mlflow_lenient.yaml")
_OF_MLFLOW = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_REGISTRY_URI")


@contextmanager
def environment(variables: Mapping[str, str | Path]) -> Iterator[pytest.MonkeyPatch]:
    """Of the project's settings, these and no others; no file ``.env``."""
    with Environment.context() as patch:
        patch.setitem(Settings.model_config, "env_file", None)
        for name in (*Settings.model_fields, *_OF_MLFLOW):
            patch.delenv(name.upper(), raising=False)
        for name, value in {"MLFLOW_YAML": LENIENT, **variables}.items():
            patch.setenv(name, str(value))
        yield patch


@pytest.fixture(scope="session", autouse=True)
def _databases_are_copies(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """MLflow's migrations take seconds: every home gets a copy of an empty database, which pytest's cache keeps."""
    made_by = digest(Path(registry.__file__).read_bytes() + version("mlflow").encode())
    cache = getattr(request.config, "cache", None)  # pytest may run without it
    folder = cache.mkdir("mlflow") if cache else tmp_path_factory.getbasetemp()
    ready, make = folder / f"{made_by}.db", registry._make_database

    def copy(path: Path) -> None:
        with FileLock(folder / "mlflow.lock"):
            if not ready.exists():
                make(ready)
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ready, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "_make_database", copy)
        yield


@pytest.fixture(scope="session", autouse=True)
def _pictures_are_blank() -> Iterator[None]:
    """To draw the pictures of all assets would take a fifth of a run; what they show is tested where they are made."""
    draw = Figure.savefig

    def draw_blank(figure: Figure, *arguments: Any, **options: Any) -> None:
        figure.clear()
        draw(figure, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", draw_blank)
        yield


@pytest.fixture(autouse=True)
def env(tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """Every test has a home and a cache of its own, unless it asks for those of the materialized pipeline."""
    with environment({"PIPELINE_HOME": tmp_path / "home", "MOVIELENS_CACHE": tmp_path / "cache"}) as patch:
        yield patch


@dataclass(frozen=True)
class Pipeline:
    """What one run of the job left behind; to be read only."""

    home: Path
    cache: Path
    result: dg.ExecuteInProcessResult
    checks: tuple[Any, ...] = ()  # as Dagster's UI knew them when the run had ended

    @property
    def run_id(self) -> str:
        return self.result.run_id

    @property
    def shown(self) -> dict[tuple[str, str], dg.MetadataValue[Any]]:
        """Metadata of all assets by asset and name."""
        events = (event for event in self.result.all_events if event.is_step_materialization)
        made = [event.step_materialization_data.materialization for event in events]
        return {(one.asset_key.to_user_string(), name): value for one in made for name, value in one.metadata.items()}

    @property
    def tables(self) -> Path:
        return self.home / "tables" / DATASET

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.tables / f"{name}.parquet")

    def document(self, name: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.tables / f"{name}.json").read_text("utf-8"))
        return document

    def bundle_path(self, model: str) -> Path:
        champion = ModelArchive(UPath(self.home), DATASET, model).champion()
        assert champion
        return Path(str(champion.bundle))

    def bundle(self, model: str) -> ModelBundle:
        return ModelBundle.load(self.bundle_path(model))


def run_job(
    instance: dg.DagsterInstance,
    config: Mapping[str, Any],
    *assets: str,
    raise_on_error: bool = True,
    data_set: str = DATASET,
) -> dg.ExecuteInProcessResult:
    """Run the job, or some of its assets, in this process."""
    job = build_definitions(dg.in_process_executor).resolve_job_def(PIPELINE)
    add_partition(instance, data_set)
    return job.execute_in_process(
        run_config=dict(config),
        instance=instance,
        partition_key=data_set,
        asset_selection=[dg.AssetKey(asset) for asset in assets] or None,
        raise_on_error=raise_on_error,
    )


def failure_text(result: dg.ExecuteInProcessResult, step: str) -> str:
    """What a failed step said of its failure."""
    data = result.failure_data_for_node(step)
    assert data is not None
    assert data.user_failure_data is not None
    return data.user_failure_data.description or ""


@pytest.fixture(scope="session")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture(scope="session")
def materialized(tmp_path_factory: pytest.TempPathFactory, instance: dg.DagsterInstance) -> Pipeline:
    """The whole job, run once on the small synthetic data."""
    folder = tmp_path_factory.mktemp("pipeline")
    home, cache = folder / "home", folder / "cache"
    with environment({"PIPELINE_HOME": home, "MOVIELENS_CACHE": cache}):
        result = run_job(instance, RUN_CONFIG)
    keys = [check.asset_check_key for check in result.get_asset_check_evaluations()]
    found = instance.event_log_storage.get_asset_check_partition_info(keys, partition_keys=[DATASET])
    return Pipeline(home, cache, result, tuple(found))


def copy_of(materialized: Pipeline, folder: Path) -> Path:
    """A copy of the pipeline's home, to be written in."""
    shutil.copytree(materialized.home, folder / "home")
    return folder / "home"


def retraining(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same launch, with every model trained even if it is registered already."""
    ops = {model: {"config": {**own["config"], "retrain": True}} for model, own in config["ops"].items()}
    return {**config, "ops": ops}


def strict(folder: Path) -> Path:
    """Gates that only a clearly better challenger of autoint passes."""
    document = yaml.safe_load(LENIENT.read_text("utf-8"))
    document["promotion"]["autoint"] = {**document["promotion"]["default"], "below_champion": 0}
    path = folder / "strict.yaml"
    path.write_text(yaml.safe_dump(document), "utf-8")
    return path


@pytest.fixture(scope="session")
def refused(materialized: Pipeline, tmp_path_factory: pytest.TempPathFactory, instance: dg.DagsterInstance) -> Pipeline:
    """A copy of the first run's home in which a second version of autoint was trained and not promoted."""
    folder = tmp_path_factory.mktemp("refused")
    home = copy_of(materialized, folder)
    # Hardly trained, the challenger is worse; and the tables are made for another month.
    worse = {"autoint": {"config": {"model": ARCHITECTURE, "training": {**TRAINING, "epochs": 1, "seed": 7}}}}
    config = {**RUN_CONFIG, "ops": {**worse, "top10_recommendations": {"config": {"year": 2002, "month": 1}}}}
    made = ("autoint", *(f"autoint_{part}" for part in ("scores", "metrics", "lists", "list_metrics")))
    published = ("model_comparison", "promotion", "top10_recommendations", "pruned_versions")
    with environment({"PIPELINE_HOME": home, "MOVIELENS_CACHE": materialized.cache, "MLFLOW_YAML": strict(folder)}):
        return Pipeline(home, materialized.cache, run_job(instance, config, *made, *published))


@pytest.fixture(scope="session")
def promoted(refused: Pipeline, tmp_path_factory: pytest.TempPathFactory, instance: dg.DagsterInstance) -> Pipeline:
    """A copy of that home in which the second version became champion, since the gates are lenient again."""
    home = copy_of(refused, tmp_path_factory.mktemp("promoted"))
    with environment({"PIPELINE_HOME": home, "MOVIELENS_CACHE": refused.cache}):
        return Pipeline(home, refused.cache, run_job(instance, RUN_CONFIG, "promotion", "top10_recommendations"))


@pytest.fixture
def pipeline(materialized: Pipeline, env: pytest.MonkeyPatch) -> Pipeline:
    """The materialized pipeline, with its home and cache in the environment."""
    env.setenv("PIPELINE_HOME", str(materialized.home))
    env.setenv("MOVIELENS_CACHE", str(materialized.cache))
    return materialized


@pytest.fixture
def own_home(materialized: Pipeline, env: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A copy of the materialized pipeline's home, in the environment, for a test to write in."""
    home = copy_of(materialized, tmp_path)
    env.setenv("PIPELINE_HOME", str(home))
    env.setenv("MOVIELENS_CACHE", str(materialized.cache))
    return home


@pytest.fixture
def tracking() -> Tracking:
    """Of the home in the environment."""
    return Tracking(raw_data=RawData.of(DATASET))


@pytest.fixture
def storage() -> Storage:
    """Of the home in the environment."""
    return Storage(raw_data=RawData.of(DATASET))


def assert_same_list(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Two top lists of one user are the same; movies may change places only where rounding decides."""
    assert found["rank"].tolist() == expected["rank"].tolist()
    pairs = zip(found["movie_id"], found["score"], expected["movie_id"], expected["score"], strict=True)
    for movie, score, expected_movie, expected_score in pairs:
        assert score == pytest.approx(expected_score, abs=1e-6)
        by_movie = expected.set_index("movie_id")["score"]
        assert movie == expected_movie or by_movie.get(movie, expected_score) == pytest.approx(score, abs=1e-6)
