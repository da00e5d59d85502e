"""Delete old versions and runs of a model by the rule of mlflow.yaml."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from orchestration.resources.tracking import Tracking

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
    """
    client, name = tracking.client, tracking.config.registered_models[model]
    publication, versions = tracking.publication(model), tracking.versions(model)
    kept = _kept(tracking, model, list(versions))
    dropped = [number for number in versions if number not in kept]
    for number in dropped:
        client.delete_model_version(name, number)
    for number in publication.archived():
        if number not in kept:
            publication.forget(number)
    runs = {versions[number].run_id for number in dropped} - {versions[number].run_id for number in kept}
    runs |= set(_runs_without_version(tracking, model, {version.run_id for version in versions.values()}))
    models = {versions[number].model_id for number in dropped} - {versions[number].model_id for number in kept}
    if runs or models:
        _delete(tracking, sorted(runs), sorted(models))
    return Pruned(tuple(dropped), tuple(sorted(runs)))


def _kept(tracking: Tracking, model: str, numbers: Sequence[str]) -> set[str]:
    rule, publication = tracking.config.retention, tracking.publication(model)
    earlier = [number for number in publication.champions() if number != publication.champion()]
    latest = earlier[max(0, len(earlier) - rule.champions) :]
    name = tracking.config.registered_models[model]
    aliased = map(str, tracking.client.get_registered_model(name).aliases.values())
    return {*numbers[-rule.versions :], *latest, *aliased} & set(numbers)


def _runs_without_version(tracking: Tracking, model: str, with_version: set[str]) -> list[str]:
    """Ended runs but for the newest, which the rule keeps."""
    mine = f"attributes.status != 'RUNNING' and tags.{_MODEL_TAG} = '{model}'"
    found = tracking.client.search_runs([tracking.experiment_id()], mine, order_by=["attributes.start_time DESC"])
    ids = [run.info.run_id for run in found if _TUNING_TAG not in run.data.tags]
    return [run_id for run_id in ids if run_id not in with_version][tracking.config.retention.runs :]


def _delete(tracking: Tracking, runs: Sequence[str], models: Sequence[str]) -> None:
    """Delete runs and logged models with their artifacts; a tracking server only marks them, to be collected there."""
    for run_id in runs:
        tracking.client.delete_run(run_id)
    for model_id in models:
        tracking.client.delete_logged_model(model_id)
    uri = tracking.config.tracking_uri
    if uri.startswith("http"):
        return
    collect = [sys.executable, "-m", "mlflow", "gc", "--backend-store-uri", uri]
    for option, ids in (("--run-ids", runs), ("--logged-model-ids", models)):
        if ids:
            collect += [option, ",".join(ids)]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": uri}
    subprocess.run(collect, check=True, capture_output=True, text=True, env=environment)  # noqa: S603
