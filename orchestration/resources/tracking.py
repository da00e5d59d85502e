"""MLflow: runs, models and the registry, as mlflow.yaml sets them up."""

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

from ml.errors import DataError
from orchestration.fingerprint import FINGERPRINT, Fingerprint
from orchestration.publication import Publication, found_in_registry
from orchestration.registered_version import EPOCH, LAST_DELIVERY, PARENT, WARM_START, RegisteredVersion
from orchestration.registry import client_of, configuration, git_tags, lock, publication
from orchestration.resources.source import RawData
from orchestration.settings import Settings, dagster_page
from orchestration.tracking_config import TrackingConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

    from ml.inference.bundle import ModelBundle
    from orchestration.tracked_run import TrackedRun

_URI_VARIABLE = "MLFLOW_TRACKING_URI"
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
        try:
            return configuration(self.dataset)
        except DataError as error:
            raise dg.Failure(str(error), allow_retries=False) from error

    @property
    def dataset(self) -> str:
        """The data set's name."""
        return self.raw_data.dataset

    @property
    def client(self) -> "MlflowClient":
        """A client of the tracking server and its registry."""
        return client_of(self.config)

    def publication(self, model: str) -> Publication:
        """The published versions of a model."""
        return publication(self.config, self.dataset, model)

    @contextmanager
    def session(self) -> Iterator[None]:
        """MLflow's fluent functions talk to this server inside, and to what they did before outside."""
        import mlflow  # noqa: PLC0415

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
        from orchestration.tracked_run import DAGSTER_URL, TrackedRun  # noqa: PLC0415

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
        import mlflow  # noqa: PLC0415

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
        """The data set's experiment, made where it is missing."""
        client = self.client
        with lock():
            experiment = client.get_experiment_by_name(self.config.experiment)
            if experiment:
                return str(experiment.experiment_id)
            # Opens in the UI as what it is, not as an experiment with language models.
            tags = {"dataset": self.dataset, "mlflow.experimentKind": "custom_model_development"}
            return str(client.create_experiment(self.config.experiment, self.config.artifact_location, tags))

    def log_evaluation(self, version: RegisteredVersion, metrics: Mapping[str, float]) -> None:
        """Add final metrics to the run, and to the logged model, of a registered version; those that have a value."""
        import mlflow  # noqa: PLC0415

        with self.session():
            measured = {name: value for name, value in metrics.items() if math.isfinite(value)}
            mlflow.log_metrics(measured, run_id=version.run_id, model_id=version.model_id)

    def log_picture(self, versions: Sequence[RegisteredVersion], figure: "Figure", name: str) -> None:
        """Add a picture, drawn once, to the artifacts of registered versions' runs."""
        with self.session(), tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            figure.savefig(path)
            for version in versions:
                self.client.log_artifact(version.run_id, str(path))

    def find(self, model: str, fingerprint: Fingerprint) -> RegisteredVersion | None:
        """The newest registered version of a model that has this fingerprint, made the challenger; None without one."""
        name = self.config.registered_models[model]
        tag = f"tags.{FINGERPRINT} = '{fingerprint.whole}'"
        found = self.client.search_model_versions(f"name = '{name}' and {tag}")
        if not found:
            return None
        newest = max(found, key=lambda version: int(version.version))
        self.client.set_registered_model_alias(name, self.config.aliases.trained, newest.version)
        return self._registered(model, newest)

    @staticmethod
    def _registered(model: str, version: "ModelVersion") -> RegisteredVersion:
        # The version's own model_id stays empty, but its source says which logged model it is of.
        model_id = version.source.removeprefix("models:/")
        return RegisteredVersion(model, version.name, str(version.version), version.run_id, model_id)

    def is_registered(self, version: RegisteredVersion) -> bool:
        """Whether the registry still has a version. Raises MlflowException where it cannot be asked."""
        name, number = version.registered_model, version.version
        return found_in_registry(lambda: self.client.get_model_version(name, number)) is not None

    def training_of(self, version: RegisteredVersion) -> TrainingRecord:
        """How a registered version was trained."""
        tags = self.tags_of(version)
        histories = (self.client.get_metric_history(version.run_id, name) for name in ("train_loss", "val_loss"))
        # A training that was interrupted logs its last epochs again when it goes on.
        curves = [{metric.step: metric.value for metric in history} for history in histories]
        train, val = ([curve[step] for step in range(1, int(tags[EPOCH]) + 1)] for curve in curves)
        parameters = int(self.client.get_run(version.run_id).data.params["parameters"])
        beginning = {tag: value for tag, value in tags.items() if tag == LAST_DELIVERY or tag.startswith(WARM_START)}
        return TrainingRecord(train, val, parameters, beginning)

    def load_bundle(self, version: RegisteredVersion) -> "ModelBundle":
        """The bundle of a registered version."""
        import mlflow  # noqa: PLC0415

        from ml.inference.bundle import ModelBundle  # noqa: PLC0415
        from orchestration.tracked_run import BUNDLE_ARTIFACT  # noqa: PLC0415

        with self.session():
            return ModelBundle.load(Path(mlflow.artifacts.download_artifacts(f"{version.uri}/{BUNDLE_ARTIFACT}")))

    def champion(self, model: str) -> RegisteredVersion | None:
        """The version of a model whose table is published; None before the first."""
        number = self.publication(model).champion()
        if number is None:
            return None
        name = self.config.registered_models[model]
        return self._registered(model, self.client.get_model_version(name, number))

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
        """The page of the MLflow UI in which the curves of the versions' runs, and no others, lie over each other."""
        runs = ", ".join(f"'{version.run_id}'" for version in versions)
        chosen = quote(f"attributes.run_id IN ({runs})")
        return self._url(f"experiments/{self.experiment_id()}/runs?compareRunsMode=CHART&searchFilter={chosen}")

    def _url(self, page: str) -> str:
        uri = self.config.tracking_uri
        base = uri if uri.startswith("http") else f"http://127.0.0.1:{Settings().mlflow_port}"
        # Without this the UI begins among pages on language models.
        return f"{base}/#/{page}{'&' if '?' in page else '?'}workflowType=machine_learning"

    def _close_earlier_attempts(self, experiment_id: str, dagster_run_id: str, asset_key: str) -> None:
        """End runs that a killed attempt of this very step left running."""
        mine = f"tags.`dagster.run_id` = '{dagster_run_id}' and tags.`dagster.asset_key` = '{asset_key}'"
        for run in self.client.search_runs([experiment_id], f"attributes.status = 'RUNNING' and {mine}"):
            self.client.set_terminated(run.info.run_id, "KILLED")
