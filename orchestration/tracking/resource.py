"""Registered versions in MLflow: find, read and measure them, and link to their pages."""

import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import dagster as dg

from ml.files import digest, parse_json
from ml.published.champions import ModelArchive
from orchestration.config.compute_config import COMPUTED_BY
from orchestration.config.settings import settings
from orchestration.tracking.bundles import BundleCopies
from orchestration.tracking.fingerprint import FINGERPRINT, Fingerprint
from orchestration.tracking.publication import found_in_registry
from orchestration.tracking.registered_version import (
    ATTENTION_FILE,
    BUNDLE_ARTIFACT,
    BUNDLE_DIGEST,
    EPOCH,
    LAST_BATCH,
    PARENT,
    WARM_START,
    RegisteredVersion,
)
from orchestration.tracking.registry import mlflow_page
from orchestration.tracking.server import ACTIVE, TrackingServer

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from mlflow.entities.model_registry import ModelVersion

    from ml.models.bundle import ModelBundle


@dataclass(frozen=True)
class TrainingRecord:
    """What MLflow knows about a version's training.

    Attributes:
        train_losses: one per epoch, up to the epoch of the weights.
        val_losses: the same.
        parameters: number of trainable parameters.
        tags: of the last ingestion batch, of the warm start, and where it was computed; those that earlier releases did
            not write are missing.
    """

    train_losses: list[float]
    val_losses: list[float]
    parameters: int
    tags: Mapping[str, str]

    @property
    def is_warm(self) -> bool:
        """Whether the training started with another version's weights."""
        return PARENT in self.tags


class Tracking(TrackingServer):
    """The runs and registered versions of one data set."""

    def find(self, model: str, fingerprint: Fingerprint) -> RegisteredVersion | None:
        """Find the newest usable version of a model with this fingerprint and make it the challenger."""
        self.experiment_id()  # restores the runs of a deleted experiment
        name = self.config.registered_models[model]
        tag = f"tags.{FINGERPRINT} = '{fingerprint.whole}'"
        for version in reversed(self._search(model, f"name = '{name}' and {tag}")):
            if problem := self.problem_of(version):
                dg.get_dagster_logger().info(f"{model}: {problem}; the version is not reused")
                continue
            self.client.set_registered_model_alias(name, self.config.aliases.trained, version.version)
            return version
        return None

    def versions(self, model: str) -> dict[str, RegisteredVersion]:
        """All registered versions of a model by number, in ascending order."""
        found = self._search(model, f"name = '{self.config.registered_models[model]}'")
        return {version.version: version for version in found}

    def champion(self, model: str) -> RegisteredVersion | None:
        """The published version of a model; None before the first, or where somebody deleted it from the registry."""
        publication = self.publication(model)
        number = publication.champion()
        if number is None:
            return None
        name = self.config.registered_models[model]
        found = found_in_registry(lambda: self.client.get_model_version(name, number))
        version = _registered(model, found) if found else None
        return version if publication.recorded(number) in (None, version) else None

    def problem_of(self, version: RegisteredVersion) -> str | None:
        """Say why a version cannot be used, since a person can delete any part of it; None where it is complete.

        Raises:
            MlflowException: the registry cannot be asked.
        """
        client, name, number = self.client, version.registered_model, version.version
        registered = found_in_registry(lambda: client.get_model_version(name, number))
        # A registered model that was deleted and created again numbers its versions from 1 again.
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

    def tags_of(self, version: RegisteredVersion) -> Mapping[str, str]:
        """The tags of a registered version."""
        tags: dict[str, str] = self.client.get_model_version(version.registered_model, version.version).tags
        return tags

    def training_of(self, version: RegisteredVersion) -> TrainingRecord:
        """How a registered version was trained."""
        tags = self.tags_of(version)
        histories = (self.client.get_metric_history(version.run_id, name) for name in ("train_loss", "val_loss"))
        # A resumed training logs its last epochs again.
        curves = [{metric.step: metric.value for metric in history} for history in histories]
        train, val = ([curve[step] for step in range(1, int(tags[EPOCH]) + 1)] for curve in curves)
        parameters = int(self.client.get_run(version.run_id).data.params["parameters"])
        told = {
            tag: value for tag, value in tags.items() if tag in (LAST_BATCH, COMPUTED_BY) or tag.startswith(WARM_START)
        }
        return TrainingRecord(train, val, parameters, told)

    def attention_of(self, version: RegisteredVersion) -> dict[str, Any] | None:
        """The document of a version's ``AttentionMaps``; None for earlier releases, and for networks without any.

        Raises:
            DataError: it is no JSON.
        """
        if ATTENTION_FILE not in {file.path for file in self.client.list_artifacts(version.run_id)}:
            return None
        uri = f"runs:/{version.run_id}/{ATTENTION_FILE}"
        document: dict[str, Any] = parse_json(self._download(uri), uri)
        return document

    def metrics_of(self, version: RegisteredVersion) -> dict[str, float]:
        """The last metrics of a registered version by name; empty where its run was deleted."""
        run = found_in_registry(lambda: self.client.get_run(version.run_id))
        metrics = run.data.metrics.items() if run else ()
        return {name: value for name, value in metrics if not name.startswith("system/") and math.isfinite(value)}

    def load_bundle(self, version: RegisteredVersion) -> "ModelBundle":
        """Load the network and encoders of a registered version. Raises as ``bundle_file``."""
        from ml.models.bundle import ModelBundle

        return ModelBundle.from_bytes(self.bundle_file(version), f"{version.uri}/{BUNDLE_ARTIFACT}")

    def bundle_file(self, version: RegisteredVersion) -> bytes:
        """Read the bundle that was logged with a version: this machine's copy, the archive's, or else MLflow's.

        Raises:
            dagster.Failure: the file in MLflow is damaged. The step is not retried.
            MlflowException: there is no such version or file, or MLflow cannot be reached.
        """
        expected = self.tags_of(version).get(BUNDLE_DIGEST)
        copies = BundleCopies(self.dataset, version.model)
        if expected and (copy := copies.find(version.model_id, expected)):
            return copy
        archived = ModelArchive(settings().home, self.dataset, version.model).version(version.version).bundle
        if expected and archived.exists() and digest(data := archived.read_bytes()) == expected:
            return data
        data = self._download(f"{version.uri}/{BUNDLE_ARTIFACT}")
        if expected and (found := digest(data)) != expected:
            raise dg.Failure(
                f"{version.uri}: {BUNDLE_ARTIFACT} in MLflow is damaged: its digest is {found}, expected {expected}; "
                "restore it from a backup, or delete the version and train it again (make run)",
                allow_retries=False,
            )
        if expected:  # without it, a damaged copy could not be detected
            copies.store(version.model_id, data)
        return data

    def log_evaluation(self, version: RegisteredVersion, metrics: Mapping[str, float]) -> None:
        """Log final metrics to the run and the logged model of a registered version, those that are finite."""
        import mlflow

        with self.session():
            self.experiment_id()  # restores a deleted experiment, whose runs would refuse metrics
            finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
            mlflow.log_metrics(finite, run_id=version.run_id, model_id=version.model_id)

    def log_picture(self, versions: Sequence[RegisteredVersion], figure: "Figure", name: str) -> None:
        """Log a figure to the artifacts of registered versions' runs."""
        with self.session(), tempfile.TemporaryDirectory() as folder:
            self.experiment_id()  # as above
            file = Path(folder) / name
            figure.savefig(file)  # once, since drawing takes longer than storing
            for version in versions:
                self.client.log_artifact(version.run_id, str(file))

    def run_url(self, run_id: str) -> str:
        """The run's page in the MLflow UI."""
        return mlflow_page(self.config, f"experiments/{self.experiment_id()}/runs/{run_id}")

    def version_url(self, version: RegisteredVersion) -> str:
        """The registered version's page in the MLflow UI."""
        return mlflow_page(self.config, f"models/{version.registered_model}/versions/{version.version}")

    def comparison_url(self, versions: Sequence[RegisteredVersion]) -> str:
        """The page of the MLflow UI that shows the loss curves of the versions' runs in one chart."""
        chosen = {
            "runs": [version.run_id for version in versions],
            "metric": "train_loss",
            "experiments": [self.experiment_id()],
            "plot_metric_keys": ["train_loss", "val_loss"],
        }
        query = "&".join(f"{name}={quote(json.dumps(value))}" for name, value in chosen.items())
        page = f"metric?{query}&x_axis=step&y_axis_scale=linear&line_smoothness=1&show_point=true"
        return mlflow_page(self.config, page)

    def _search(self, model: str, condition: str) -> list[RegisteredVersion]:
        """The registered versions that satisfy a condition in MLflow's search syntax, in ascending order."""
        found = [_registered(model, version) for version in self.client.search_model_versions(condition)]
        return sorted(found, key=lambda version: int(version.version))

    def _is_active(self, experiment_id: str) -> bool:
        """Whether an experiment was not deleted. The next step that logs something restores a deleted one."""
        return str(self.client.get_experiment(experiment_id).lifecycle_stage) == ACTIVE

    def _download(self, uri: str) -> bytes:
        import mlflow

        with self.session(), tempfile.TemporaryDirectory() as folder:
            return Path(mlflow.artifacts.download_artifacts(uri, dst_path=folder)).read_bytes()


def _registered(model: str, version: "ModelVersion") -> RegisteredVersion:
    # MLflow leaves the version's own model_id empty; the source names the logged model.
    model_id = version.source.removeprefix("models:/")
    return RegisteredVersion(model, version.name, str(version.version), version.run_id, model_id)
