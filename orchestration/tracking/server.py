"""The tracking server of one data set: its configuration, client and experiment, and the runs that are active."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import dagster as dg

from orchestration.config.settings import dagster_page, settings
from orchestration.config.tracking_config import TrackingConfig
from orchestration.reporting.failures import without_retry
from orchestration.resources.raw_data import RawData
from orchestration.tracking.access import admitted
from orchestration.tracking.publication import Publication
from orchestration.tracking.registry import client_of, configuration, git_tags, lock, publication

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from orchestration.tracking.tracked_run import TrackedRun

_URI_VARIABLE = "MLFLOW_TRACKING_URI"
ACTIVE = "active"  # MLflow's word for what was not deleted
_NO_TAGS: Mapping[str, str] = {}


class TrackingServer(dg.ConfigurableResource):
    """The MLflow server or database of one data set, as mlflow.yaml configures it."""

    raw_data: dg.ResourceDependency[RawData]

    @property
    def config(self) -> TrackingConfig:
        """mlflow.yaml with its placeholders filled in.

        Raises:
            dagster.Failure: the file cannot be used. The step is not retried.
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
            dagster.Failure: the database cannot be used. The step is not retried.
        """
        with without_retry():
            return client_of(self.config)

    def publication(self, model: str) -> Publication:
        """The published versions of a model."""
        return publication(self.config, self.dataset, model)

    @contextmanager
    def session(self) -> Iterator[None]:
        """Direct MLflow's fluent functions to this server, and afterwards to the one that they used before.

        Raises:
            dagster.Failure: the server does not let this user do what is asked of it. The step is not retried.
        """
        import mlflow

        _ = self.client  # creates the database where it is missing
        before, environment = mlflow.get_tracking_uri(), os.environ.get(_URI_VARIABLE)
        mlflow.set_tracking_uri(self.config.tracking_uri)
        try:
            with without_retry(), admitted():
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
        """Log one asset's work as an MLflow run, which ends as ``active_run`` says.

        Args:
            context: of the asset.
            name: of the model.
            own_tags: further tags of the run.
        """
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
            # A killed attempt of the same step has left its run running.
            step = {name: tags[name] for name in ("dagster.run_id", "dagster.asset_key")}
            self.end_running(" and ".join(f"tags.`{name}` = '{value}'" for name, value in step.items()))
            with self.active_run(name, tags, system_metrics=True) as run_id:
                yield TrackedRun(self.client, run_id, self.config, tags)

    @contextmanager
    def active_run(
        self,
        name: str,
        tags: Mapping[str, str],
        run_id: str | None = None,
        nested: bool = False,
        system_metrics: bool = False,
    ) -> Iterator[str]:
        """Start an MLflow run inside a session; gives its id. An exception fails it, a cancellation kills it.

        Args:
            name: of the run.
            tags: of the run.
            run_id: of an earlier run to resume.
            nested: whether it is a child of the active run.
            system_metrics: whether MLflow logs the machine's load every ten seconds.
        """
        import mlflow

        with mlflow.start_run(
            run_id,
            experiment_id=self.experiment_id(),
            run_name=name,
            tags=dict(tags),
            nested=nested,
            log_system_metrics=system_metrics,
        ) as run:
            try:
                yield run.info.run_id
            except (KeyboardInterrupt, dg.DagsterExecutionInterruptedError):
                mlflow.end_run("KILLED")
                raise

    def end_running(self, condition: str) -> list[str]:
        """End the running runs that satisfy a condition in MLflow's search syntax, as killed; gives their ids."""
        running = f"attributes.status = 'RUNNING' and {condition}"
        found = [run.info.run_id for run in self.client.search_runs([self.experiment_id()], running)]
        for run_id in found:
            self.client.set_terminated(run_id, "KILLED")
        return found

    def experiment_id(self) -> str:
        """The data set's experiment: created where it is missing, restored with its runs where somebody deleted it.

        Raises:
            dagster.Failure: artifacts cannot be stored at the location in mlflow.yaml, or the experiment has another
                one outside the home. The step is not retried.
        """
        client, config = self.client, self.config
        with lock():
            experiment = client.get_experiment_by_name(config.experiment)
            if experiment is None:
                with self.session():
                    _require_usable(config.artifact_location, config.tracking_uri)
                # The kind makes the UI show pages for machine learning; the default is language models.
                tags = {"dataset": self.dataset, "mlflow.experimentKind": "custom_model_development"}
                return str(client.create_experiment(config.experiment, config.artifact_location, tags))
            _require_own(experiment.artifact_location, config)
            if experiment.lifecycle_stage != ACTIVE:
                client.restore_experiment(experiment.experiment_id)
                dg.get_dagster_logger().info(
                    f"The experiment {config.experiment} was deleted in MLflow; it is restored with its runs"
                )
            return str(experiment.experiment_id)


def _require_own(location: str, config: TrackingConfig) -> None:
    """Raise dagster.Failure where an experiment's artifacts are not this home's, as in a copy of another home."""
    from orchestration.tracking.artifacts import is_own

    if not is_own(location, config):
        raise dg.Failure(
            f"{settings().mlflow_yaml}, artifact_location: the experiment {config.experiment} keeps its artifacts in "
            f"{location}, outside {settings().home}, and expected is {config.artifact_location}: they may belong to "
            "the home that this one is a copy of, so nothing is written or deleted there. If they are this home's, "
            "set artifact_location to that place; if not, copy them to the expected one",
            allow_retries=False,
        )


def _require_usable(location: str, tracking_uri: str) -> None:
    """Raise dagster.Failure where MLflow cannot store artifacts: without this it would fail after the training."""
    from mlflow.exceptions import MlflowException
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    try:
        get_artifact_repository(location, tracking_uri)
    except (MlflowException, ImportError, ValueError) as error:
        raise dg.Failure(
            f"{settings().mlflow_yaml}, artifact_location: {location}: MLflow cannot store artifacts there ({error})",
            allow_retries=False,
        ) from error
