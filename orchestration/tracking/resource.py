"""MLflow: runs, models and the registry, as mlflow.yaml sets them up."""

import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import dagster as dg

from orchestration.config.settings import dagster_page, settings
from orchestration.config.tracking_config import TrackingConfig
from orchestration.reporting.failures import without_retry
from orchestration.resources.raw_data import RawData
from orchestration.tracking.fingerprint import FINGERPRINT, Fingerprint
from orchestration.tracking.publication import Publication, found_in_registry
from orchestration.tracking.registered_version import (
    BUNDLE_ARTIFACT,
    EPOCH,
    LAST_BATCH,
    PARENT,
    WARM_START,
    RegisteredVersion,
)
from orchestration.tracking.registry import client_of, configuration, git_tags, lock, mlflow_page, publication

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from ml.models.bundle import ModelBundle
    from orchestration.tracking.tracked_run import TrackedRun

_URI_VARIABLE = "MLFLOW_TRACKING_URI"
ACTIVE = "active"  # MLflow's word for what nobody has deleted
_NO_TAGS: Mapping[str, str] = {}


@dataclass(frozen=True)
class TrainingRecord:
    """What MLflow knows of a version's training.

    Attributes:
        train_losses: of the epochs from the first to the one that the weights are from.
        val_losses: the same.
        parameters: number of trained numbers.
        beginning: tags that say what it has learned and from where it began; perhaps none.
    """

    train_losses: list[float]
    val_losses: list[float]
    parameters: int
    beginning: Mapping[str, str]

    @property
    def is_warm(self) -> bool:
        """Whether it went on from another version's weights."""
        return PARENT in self.beginning


class Tracking(dg.ConfigurableResource):
    """The MLflow tracking server and registry of one data set."""

    raw_data: dg.ResourceDependency[RawData]

    @property
    def config(self) -> TrackingConfig:
        """mlflow.yaml with the placeholders filled in.

        Raises:
            dagster.Failure: the file cannot be used; trying again would not help.
        """
        with without_retry():
            return configuration(self.dataset)

    @property
    def dataset(self) -> str:
        """The data set's name."""
        return self.raw_data.dataset

    @property
    def client(self) -> "MlflowClient":
        """A client of the tracking server and its registry.

        Raises:
            dagster.Failure: the database cannot be used; trying again would not help.
        """
        with without_retry():
            return client_of(self.config)

    def publication(self, model: str) -> Publication:
        """The published versions of a model."""
        return publication(self.config, self.dataset, model)

    @contextmanager
    def session(self) -> Iterator[None]:
        """MLflow's fluent functions talk to this server inside, and to what they did before outside."""
        import mlflow

        _ = self.client  # puts the database in order where that is needed
        before, environment = mlflow.get_tracking_uri(), os.environ.get(_URI_VARIABLE)
        mlflow.set_tracking_uri(self.config.tracking_uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(before)
            # MLflow also sets the environment variable, which would override mlflow.yaml from then on.
            if environment is None:
                os.environ.pop(_URI_VARIABLE, None)
            else:
                os.environ[_URI_VARIABLE] = environment

    @contextmanager
    def run(
        self, context: dg.AssetExecutionContext, name: str, own_tags: Mapping[str, str] = _NO_TAGS
    ) -> Iterator["TrackedRun"]:
        """Log one asset's work as one MLflow run. An exception ends it as failed, a cancellation as killed."""
        from orchestration.tracking.tracked_run import DAGSTER_URL, TrackedRun

        asset_key = context.asset_key.to_user_string()
        tags = {
            "dataset": self.dataset,
            "model": name,
            "dagster.run_id": context.run.run_id,
            DAGSTER_URL: dagster_page(f"runs/{context.run.run_id}"),
            "dagster.job": context.job_name,
            "dagster.asset_key": asset_key,
            "dagster.retry_number": str(context.retry_number),
            **own_tags,
            **git_tags(),
        }
        with self.session():
            experiment_id = self.experiment_id()
            self._close_earlier_attempts(experiment_id, context.run.run_id, asset_key)
            with self.active_run(name, tags, watched=True) as run_id:
                yield TrackedRun(self.client, run_id, self.config, tags)

    @contextmanager
    def active_run(
        self,
        name: str,
        tags: Mapping[str, str],
        run_id: str | None = None,
        nested: bool = False,
        watched: bool = False,
    ) -> Iterator[str]:
        """Have an MLflow run inside a session. An exception ends it as failed, a cancellation as killed.

        Args:
            name: of the run.
            tags: of the run.
            run_id: of an earlier run to go on with.
            nested: whether it belongs to the run that is active.
            watched: whether the machine's load is logged with it, every ten seconds.
        """
        import mlflow

        place = {
            "experiment_id": self.experiment_id(),
            "run_id": run_id,
            "nested": nested,
            "log_system_metrics": watched,
        }
        with mlflow.start_run(run_name=name, tags=dict(tags), **place) as run:
            try:
                yield run.info.run_id
            except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
                mlflow.end_run("KILLED")
                raise

    def experiment_id(self) -> str:
        """The data set's experiment, created where it is missing, restored with its runs where somebody deleted it.

        Raises:
            dagster.Failure: artifacts cannot be kept where mlflow.yaml says.
        """
        client, config = self.client, self.config
        with lock():
            experiment = client.get_experiment_by_name(config.experiment)
            if experiment is None:
                with self.session():
                    _require_usable(config.artifact_location, config.tracking_uri)
                # Opens in the UI as what it is, not as an experiment with language models.
                tags = {"dataset": self.dataset, "mlflow.experimentKind": "custom_model_development"}
                return str(client.create_experiment(config.experiment, config.artifact_location, tags))
            if experiment.lifecycle_stage != ACTIVE:
                client.restore_experiment(experiment.experiment_id)
                dg.get_dagster_logger().info(
                    f"The experiment {config.experiment} had been deleted in MLflow; it is restored with its runs"
                )
            return str(experiment.experiment_id)

    def log_evaluation(self, version: RegisteredVersion, metrics: Mapping[str, float]) -> None:
        """Add final metrics to the run, and to the logged model, of a registered version; those that have a value."""
        import mlflow

        with self.session():
            self.experiment_id()  # nothing can be logged to the runs of a deleted one
            measured = {name: value for name, value in metrics.items() if math.isfinite(value)}
            mlflow.log_metrics(measured, run_id=version.run_id, model_id=version.model_id)

    def log_picture(self, versions: Sequence[RegisteredVersion], figure: "Figure", name: str) -> None:
        """Add a picture, drawn once, to the artifacts of registered versions' runs."""
        with self.session(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            figure.savefig(path)
            self.experiment_id()  # as above
            for version in versions:
                self.client.log_artifact(version.run_id, str(path))

    def find(self, model: str, fingerprint: Fingerprint) -> RegisteredVersion | None:
        """The newest usable version of a model that has this fingerprint, made the challenger; None without one."""
        self.experiment_id()  # the runs of a deleted one are back after this
        name = self.config.registered_models[model]
        tag = f"tags.{FINGERPRINT} = '{fingerprint.whole}'"
        found = self.client.search_model_versions(f"name = '{name}' and {tag}")
        for each in sorted(found, key=lambda version: int(version.version), reverse=True):
            version = self._registered(model, each)
            if problem := self.problem_of(version):
                dg.get_dagster_logger().info(f"{model}: {problem}; the version is not reused")
                continue
            self.client.set_registered_model_alias(name, self.config.aliases.trained, version.version)
            return version
        return None

    @staticmethod
    def _registered(model: str, version: "ModelVersion") -> RegisteredVersion:
        # The version's own model_id stays empty, but its source says which logged model it is of.
        model_id = version.source.removeprefix("models:/")
        return RegisteredVersion(model, version.name, str(version.version), version.run_id, model_id)

    def problem_of(self, version: RegisteredVersion) -> str | None:
        """Why a version cannot be used, since a person can delete any part of it; None where it is whole.

        Raises MlflowException where the registry cannot be asked.
        """
        client, name, number = self.client, version.registered_model, version.version
        registered = found_in_registry(lambda: client.get_model_version(name, number))
        # A registered model that was deleted and made again counts its versions from 1 again.
        if registered is None or registered.run_id != version.run_id:
            return f"version {number} is not in the registry"
        run = found_in_registry(lambda: client.get_run(version.run_id))
        if run is None or (run.info.lifecycle_stage != ACTIVE and self._is_active(run.info.experiment_id)):
            return f"the MLflow run of version {number} was deleted"
        if found_in_registry(lambda: client.get_logged_model(version.model_id)) is None:
            return f"the logged model of version {number} was deleted"
        folder, _ = BUNDLE_ARTIFACT.rsplit("/", 1)
        kept = client.list_logged_model_artifacts(version.model_id, folder)
        return None if BUNDLE_ARTIFACT in {file.path for file in kept} else f"the files of version {number} are missing"

    def is_running(self, run_id: str) -> bool:
        """Whether a run goes on."""
        run = found_in_registry(lambda: self.client.get_run(run_id))
        return run is not None and str(run.info.status) == "RUNNING"

    def _is_active(self, experiment_id: str) -> bool:
        """Whether an experiment has not been deleted; one that has is restored with its runs by the next to log."""
        return str(self.client.get_experiment(experiment_id).lifecycle_stage) == ACTIVE

    def training_of(self, version: RegisteredVersion) -> TrainingRecord:
        """How a registered version was trained."""
        tags = self.tags_of(version)
        histories = (self.client.get_metric_history(version.run_id, name) for name in ("train_loss", "val_loss"))
        # A training that was interrupted logs its last epochs again when it goes on.
        curves = [{metric.step: metric.value for metric in history} for history in histories]
        train, val = ([curve[step] for step in range(1, int(tags[EPOCH]) + 1)] for curve in curves)
        parameters = int(self.client.get_run(version.run_id).data.params["parameters"])
        beginning = {tag: value for tag, value in tags.items() if tag == LAST_BATCH or tag.startswith(WARM_START)}
        return TrainingRecord(train, val, parameters, beginning)

    def metrics_of(self, version: RegisteredVersion) -> dict[str, float]:
        """What was last measured of a registered version; nothing where its run is gone."""
        run = found_in_registry(lambda: self.client.get_run(version.run_id))
        metrics = run.data.metrics.items() if run else ()
        return {name: value for name, value in metrics if not name.startswith("system/") and math.isfinite(value)}

    def load_bundle(self, version: RegisteredVersion) -> "ModelBundle":
        """The bundle of a registered version."""
        import mlflow

        from ml.models.bundle import ModelBundle

        with self.session():
            return ModelBundle.load(Path(mlflow.artifacts.download_artifacts(f"{version.uri}/{BUNDLE_ARTIFACT}")))

    def champion(self, model: str) -> RegisteredVersion | None:
        """The version of a model whose table is published; None before the first, or where somebody deleted it."""
        publication = self.publication(model)
        number = publication.champion()
        if number is None:
            return None
        name = self.config.registered_models[model]
        found = found_in_registry(lambda: self.client.get_model_version(name, number))
        version = self._registered(model, found) if found else None
        return version if publication.recorded(number) in (None, version) else None

    def versions(self, model: str) -> dict[str, RegisteredVersion]:
        """All registered versions of a model by their numbers, the oldest first."""
        found = self.client.search_model_versions(f"name = '{self.config.registered_models[model]}'")
        versions = [self._registered(model, version) for version in found]
        return {version.version: version for version in sorted(versions, key=lambda version: int(version.version))}

    def tags_of(self, version: RegisteredVersion) -> Mapping[str, str]:
        """The tags of a registered version."""
        tags: dict[str, str] = self.client.get_model_version(version.registered_model, version.version).tags
        return tags

    def run_url(self, run_id: str) -> str:
        """The run's page in the MLflow UI."""
        return self._url(f"experiments/{self.experiment_id()}/runs/{run_id}")

    def version_url(self, version: RegisteredVersion) -> str:
        """The registered version's page in the MLflow UI."""
        return self._url(f"models/{version.registered_model}/versions/{version.version}")

    def comparison_url(self, versions: Sequence[RegisteredVersion]) -> str:
        """The page of the MLflow UI in which the loss curves of the versions' runs lie over each other."""
        chosen = {
            "runs": [version.run_id for version in versions],
            "metric": "train_loss",
            "experiments": [self.experiment_id()],
            "plot_metric_keys": ["train_loss", "val_loss"],
        }
        query = "&".join(f"{name}={quote(json.dumps(value))}" for name, value in chosen.items())
        return self._url(f"metric?{query}&x_axis=step&y_axis_scale=linear&line_smoothness=1&show_point=true")

    def _url(self, page: str) -> str:
        return mlflow_page(self.config, page)

    def _close_earlier_attempts(self, experiment_id: str, dagster_run_id: str, asset_key: str) -> None:
        """End runs that a killed attempt of this very step left running."""
        mine = f"tags.`dagster.run_id` = '{dagster_run_id}' and tags.`dagster.asset_key` = '{asset_key}'"
        for run in self.client.search_runs([experiment_id], f"attributes.status = 'RUNNING' and {mine}"):
            self.client.set_terminated(run.info.run_id, "KILLED")


def _require_usable(location: str, tracking_uri: str) -> None:
    """Raises dagster.Failure where MLflow cannot keep artifacts at a location: it would say so after the training."""
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    try:
        get_artifact_repository(location, tracking_uri)
    except (MlflowException, ImportError, ValueError) as error:
        raise dg.Failure(
            f"{settings().tracking_file}, artifact_location: {location}: MLflow cannot keep artifacts there ({error})",
            allow_retries=False,
        ) from error
