"""The whole pipeline, materialized once for all tests, and an environment that nothing outside can reach into."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from orchestration.assets.common import MODELS
from orchestration.definitions import build_definitions
from orchestration.jobs import PIPELINE
from orchestration.resources.source import RawData
from orchestration.resources.tracking import Tracking
from orchestration.settings import Settings

DATASET = "synthetic-small"
EPOCHS = 3
TRAINING = {"batch_size": 256, "learning_rate": 1e-3, "epochs": EPOCHS}
RUN_CONFIG = {
    "resources": {"raw_data": {"config": {"source": DATASET}}},
    "ops": {model: {"config": {"training": TRAINING}} for model in MODELS},
}
FOREIGN = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_REGISTRY_URI")


@contextmanager
def environment(variables: Mapping[str, str | Path]) -> Iterator[pytest.MonkeyPatch]:
    """Of the project's settings, only these; no file ``.env``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(Settings.model_config, "env_file", None)
        for name in (*Settings.model_fields, *FOREIGN):
            patch.delenv(name.upper(), raising=False)
        for name, value in variables.items():
            patch.setenv(name, str(value))
        yield patch


@pytest.fixture(autouse=True)
def env(tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """Every test has a home and a cache of its own unless it asks for those of the materialized pipeline."""
    with environment({"PIPELINE_HOME": tmp_path / "home", "MOVIELENS_CACHE": tmp_path / "cache"}) as patch:
        yield patch


@dataclass(frozen=True)
class Pipeline:
    """What one run of the job left behind; to be read only."""

    home: Path
    cache: Path
    instance: dg.DagsterInstance
    run_id: str

    @property
    def variables(self) -> dict[str, str]:
        """The environment that it ran in."""
        return {"PIPELINE_HOME": str(self.home), "MOVIELENS_CACHE": str(self.cache)}

    @property
    def tables(self) -> Path:
        return self.home / "tables" / DATASET

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_parquet(self.tables / f"{name}.parquet")

    def document(self, name: str) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.tables / f"{name}.json").read_text("utf-8"))
        return document


def run_pipeline(home: Path, cache: Path, instance: dg.DagsterInstance, config: Mapping[str, Any]) -> Pipeline:
    """Run the whole job in this process."""
    with environment({"PIPELINE_HOME": home, "MOVIELENS_CACHE": cache}):
        job = build_definitions(dg.in_process_executor).resolve_job_def(PIPELINE)
        result = job.execute_in_process(run_config=dict(config), instance=instance)
    return Pipeline(home, cache, instance, result.run_id)


@pytest.fixture(scope="session")
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


@pytest.fixture(scope="session")
def materialized(tmp_path_factory: pytest.TempPathFactory, instance: dg.DagsterInstance) -> Pipeline:
    """The whole job, run once on the small synthetic data."""
    folder = tmp_path_factory.mktemp("pipeline")
    return run_pipeline(folder / "home", folder / "cache", instance, RUN_CONFIG)


@pytest.fixture(scope="session")
def materialized_again(
    materialized: Pipeline, tmp_path_factory: pytest.TempPathFactory, instance: dg.DagsterInstance
) -> Pipeline:
    """The job once more in a copy of the first run's home, so that the first one's results stay as they are."""
    home = tmp_path_factory.mktemp("again") / "home"
    shutil.copytree(materialized.home, home)
    return run_pipeline(home, materialized.cache, instance, RUN_CONFIG)


@pytest.fixture
def pipeline(materialized: Pipeline, env: pytest.MonkeyPatch) -> Pipeline:
    """The materialized pipeline, with its environment set."""
    for name, value in materialized.variables.items():
        env.setenv(name, value)
    return materialized


@pytest.fixture
def tracking() -> Tracking:
    """Of the environment's home."""
    return Tracking(raw_data=RawData(source=DATASET))
