"""Delete old versions and runs of a model by the retention rule of mlflow.yaml."""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import dagster as dg

from orchestration.config.settings import settings
from orchestration.config.tracking_config import TrackingConfig, is_server
from orchestration.tracking.publication import found_in_registry
from orchestration.tracking.resource import Tracking
from orchestration.tracking.server import ACTIVE

_MODEL_TAG = "model"
_TUNING_TAG = "kind"  # only runs of make tune have it


@dataclass(frozen=True)
class Pruned:
    """What was deleted of a model.

    Attributes:
        versions: numbers of versions.
        runs: ids of runs.
    """

    versions: tuple[str, ...]
    runs: tuple[str, ...]


def prune(tracking: Tracking, model: str) -> Pruned:
    """Delete what the rule does not keep.

    The rule keeps champion and challenger, the newest versions, the latest earlier champions with their tables, the
    runs of all these, and the newest runs without a version. Running runs and those of ``make tune`` are kept too.
    Logged models without a version are deleted: their training failed before it registered one. Versions are deleted
    after their runs and logged models, so that the next call completes one that was interrupted.
    """
    client, name = tracking.client, tracking.config.registered_models[model]
    publication, versions = tracking.publication(model), tracking.versions(model)
    kept = _kept(tracking, model, list(versions)) if versions else set()  # without any, no model may be registered
    dropped = [number for number in versions if number not in kept]
    for number in publication.archive.versions():
        if number not in kept and number != publication.champion():  # which somebody may have deleted from the registry
            publication.forget(number)
    runs = {versions[number].run_id for number in dropped} - {versions[number].run_id for number in kept}
    runs |= set(_runs_without_version(tracking, model, {version.run_id for version in versions.values()}))
    models = {versions[number].model_id for number in dropped} - {versions[number].model_id for number in kept}
    models |= set(_models_without_version(tracking, model, {version.model_id for version in versions.values()}))
    if runs or models:
        _delete(tracking, sorted(runs), sorted(models))
    for number in dropped:
        client.delete_model_version(name, number)
    return Pruned(tuple(dropped), tuple(sorted(runs)))


def _kept(tracking: Tracking, model: str, numbers: Sequence[str]) -> set[str]:
    rule = tracking.config.retention
    latest = tracking.publication(model).archive.champions()[-rule.champions - 1 :]  # the champion and those before it
    name = tracking.config.registered_models[model]
    aliased = map(str, tracking.client.get_registered_model(name).aliases.values())
    return {*numbers[-rule.versions :], *latest, *aliased} & set(numbers)


def _runs_without_version(tracking: Tracking, model: str, with_version: set[str]) -> list[str]:
    """Ids of finished runs without a version, except for the newest, which the rule keeps."""
    import mlflow

    finished = f"attributes.status != 'RUNNING' and tags.{_MODEL_TAG} = '{model}'"
    with tracking.session():
        found = mlflow.search_runs(
            [tracking.experiment_id()],
            finished,
            order_by=["attributes.start_time DESC"],
            output_format="list",
        )
    ids = [run.info.run_id for run in found if _TUNING_TAG not in run.data.tags]
    return [run_id for run_id in ids if run_id not in with_version][tracking.config.retention.runs :]


def _models_without_version(tracking: Tracking, model: str, with_version: set[str]) -> list[str]:
    """Ids of the logged models without a version whose runs are not running."""
    import mlflow

    def is_running(run_id: str) -> bool:
        run = found_in_registry(partial(tracking.client.get_run, run_id))
        return run is not None and str(run.info.status) == "RUNNING"

    with tracking.session():
        found = mlflow.search_logged_models(
            [tracking.experiment_id()], filter_string=f"name = '{model}'", output_format="list"
        )
    orphans = [logged for logged in found if logged.model_id not in with_version]
    return [logged.model_id for logged in orphans if not is_running(logged.source_run_id)]


def _delete(tracking: Tracking, runs: Iterable[str], models: Iterable[str]) -> None:
    """Delete runs and logged models with their artifacts. A tracking server only marks them for its own ``mlflow gc``.

    With a database, this does what ``mlflow gc`` does, but leaves the files of another home alone. That command would
    also delete every experiment that anybody has ever marked as deleted, with all its runs; and MLflow has no public
    function that deletes for good. Nothing is marked before: a search does not find what is marked, so nobody would
    complete a deletion that was interrupted.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    client, config = tracking.client, tracking.config
    store = None if is_server(config.tracking_uri) else SqlAlchemyStore(config.tracking_uri, config.artifact_location)
    for run_id in runs:
        run = found_in_registry(partial(client.get_run, run_id))
        if run is not None and store:
            _delete_files(run.info.artifact_uri, config)
            store._hard_delete_run(run_id)
        elif run is not None and run.info.lifecycle_stage == ACTIVE:
            client.delete_run(run_id)
    for model_id in models:
        logged = found_in_registry(partial(client.get_logged_model, model_id))
        if logged is not None and store:
            _delete_files(logged.artifact_location, config)
            store._hard_delete_logged_model(model_id)
        elif logged is not None:
            client.delete_logged_model(model_id)


def _delete_files(location: str, config: TrackingConfig) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

    from orchestration.tracking.artifacts import is_own

    if is_own(location, config):
        repository = get_artifact_repository(location, config.tracking_uri)
        repository.delete_artifacts()
        if isinstance(repository, LocalArtifactRepository):
            with suppress(OSError):  # only an empty folder is removed
                Path(repository.artifact_dir).parent.rmdir()  # named after the run or model; MLflow leaves it
    else:
        dg.get_dagster_logger().warning(f"{location} is not deleted: it is outside {settings().home}")
