"""Delete old versions and runs of a model by the rule of mlflow.yaml."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from orchestration.tracking.publication import found_in_registry
from orchestration.tracking.resource import ACTIVE, Tracking

_MODEL_TAG = "model"
_TUNING_TAG = "kind"  # runs of make tune carry it


@dataclass(frozen=True)
class Pruned:
    """What was deleted of a model: numbers of versions, ids of runs."""

    versions: tuple[str, ...]
    runs: tuple[str, ...]


def prune(tracking: Tracking, model: str) -> Pruned:
    """Delete what the rule does not keep.

    Kept are champion and challenger, the newest versions, the latest earlier champions with their tables, the runs of
    all these, and the newest of the runs that made no version. Runs that go on and those of ``make tune`` are left.
    Logged models that no version refers to go too: those of trainings that died before they were registered.
    """
    client, name = tracking.client, tracking.config.registered_models[model]
    publication, versions = tracking.publication(model), tracking.versions(model)
    kept = _kept(tracking, model, list(versions))
    dropped = [number for number in versions if number not in kept]
    for number in dropped:
        client.delete_model_version(name, number)
    for number in publication.archive.versions():
        if number not in kept and number != publication.champion():  # which somebody may have deleted from the registry
            publication.forget(number)
    runs = {versions[number].run_id for number in dropped} - {versions[number].run_id for number in kept}
    runs |= set(_runs_without_version(tracking, model, {version.run_id for version in versions.values()}))
    models = {versions[number].model_id for number in dropped} - {versions[number].model_id for number in kept}
    models |= set(_models_without_version(tracking, model, {version.model_id for version in versions.values()}))
    if runs or models:
        _delete(tracking, sorted(runs), sorted(models))
    return Pruned(tuple(dropped), tuple(sorted(runs)))


def _kept(tracking: Tracking, model: str, numbers: Sequence[str]) -> set[str]:
    rule = tracking.config.retention
    latest = tracking.publication(model).archive.champions()[-rule.champions - 1 :]  # the champion and those before it
    name = tracking.config.registered_models[model]
    aliased = map(str, tracking.client.get_registered_model(name).aliases.values())
    return {*numbers[-rule.versions :], *latest, *aliased} & set(numbers)


def _runs_without_version(tracking: Tracking, model: str, with_version: set[str]) -> list[str]:
    """Ended runs but for the newest, which the rule keeps."""
    mine = f"attributes.status != 'RUNNING' and tags.{_MODEL_TAG} = '{model}'"
    found = tracking.client.search_runs([tracking.experiment_id()], mine, order_by=["attributes.start_time DESC"])
    ids = [run.info.run_id for run in found if _TUNING_TAG not in run.data.tags]
    return [run_id for run_id in ids if run_id not in with_version][tracking.config.retention.runs :]


def _models_without_version(tracking: Tracking, model: str, with_version: set[str]) -> list[str]:
    """Logged models of ended runs."""
    found, token = [], None
    while True:
        page = tracking.client.search_logged_models(
            [tracking.experiment_id()], filter_string=f"name = '{model}'", page_token=token
        )
        found += [logged for logged in page if logged.model_id not in with_version]
        if not (token := page.token):
            break
    return [logged.model_id for logged in found if not tracking.is_running(logged.source_run_id)]


def _delete(tracking: Tracking, runs: Sequence[str], models: Sequence[str]) -> None:
    """Delete runs and logged models with their artifacts; a tracking server only marks them, to be collected there."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
    from mlflow.tracking import _get_store

    client, uri = tracking.client, tracking.config.tracking_uri
    # What `mlflow gc` does, which would also take every experiment that anybody has ever deleted, with all its runs.
    store = None if uri.startswith("http") else _get_store(uri)
    for run_id in runs:
        run = found_in_registry(partial(client.get_run, run_id))
        if run is not None and run.info.lifecycle_stage == ACTIVE:
            client.delete_run(run_id)
        if run is not None and store:
            get_artifact_repository(run.info.artifact_uri, uri).delete_artifacts()
            store._hard_delete_run(run_id)
    for model_id in models:
        logged = found_in_registry(partial(client.get_logged_model, model_id))
        if logged is not None:
            client.delete_logged_model(model_id)
        if logged is not None and store:
            get_artifact_repository(logged.artifact_location, uri).delete_artifacts()
            store._hard_delete_logged_model(model_id)
