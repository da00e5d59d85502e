"""Put in order what runs that died have left, before a run begins: no other one is at work then."""

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from ml.data.ingestion import QUARANTINE
from ml.files import TEMPORARY_NAME
from ml.published.locations import ARCHIVE
from orchestration.config import locks
from orchestration.config.recipes_in_force import RECIPES
from orchestration.config.settings import Settings
from orchestration.config.tracking_config import SQLITE, database_file
from orchestration.resources.raw_data import RECEIVED
from orchestration.steps.training import checkpoints
from orchestration.tracking.publication import interrupted
from orchestration.tracking.registry import client_of, configuration, publication

_AT_WORK = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
START_SECONDS = 120  # a run's process is there long before
_BEGUN_SECONDS = 20  # a process that has begun is known as alive long before
_BEGUN = {dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING}


def put_in_order(instance: dg.DagsterInstance, run_id: str) -> Iterator[str]:
    """Do all below, for the run that begins; yields a line for each thing done."""
    yield from fail_dead_runs(instance, run_id)
    yield from free_places(instance, run_id)
    remove_locks(instance)
    yield from remove_temporary_files()
    yield from remove_checkpoints()
    if not _registry_exists():
        return
    yield from finish_publications()
    yield from close_tracked_runs(instance, run_id)


def fail_dead_runs(instance: dg.DagsterInstance, own_run_id: str | None = None) -> Iterator[str]:
    """Mark runs as failed whose process has ended without saying so, since Dagster would take them for running."""
    for record in instance.get_run_records(dg.RunsFilter(statuses=_AT_WORK)):
        run = record.dagster_run
        if run.run_id == own_run_id:
            continue
        living = locks.is_living(run.run_id)
        age = (datetime.now(UTC) - record.update_timestamp).total_seconds()
        limit = _BEGUN_SECONDS if run.status in _BEGUN else START_SECONDS
        if living is False or (living is None and age > limit):
            instance.report_run_failed(
                run, "The run's process ended without a word: it was killed, or the machine stopped"
            )
            yield f"Run {run.run_id} is marked as failed: its process is gone"


def free_places(instance: dg.DagsterInstance, own_run_id: str) -> Iterator[str]:
    """Free the places in pools that other runs still hold, however they ended: else trainings wait for them for ever.

    A run that lives waits for its turn and holds none yet. One whose end could not be recorded, as on a full disk,
    counts as running for Dagster.
    """
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return
    pools = [storage.get_concurrency_info(pool) for pool in storage.get_concurrency_keys()]
    holding = {slot.run_id for pool in pools for slot in pool.claimed_slots}
    holding |= {step.run_id for pool in pools for step in pool.pending_steps}
    for run_id in sorted(holding - {own_run_id}):
        if not locks.is_living(run_id):
            storage.free_concurrency_slots_for_run(run_id)
            yield f"Run {run_id} has ended: its places in pools are free again"


def remove_locks(instance: dg.DagsterInstance) -> None:
    """Remove the lock files of runs that died."""

    def ended(run_id: str) -> bool:
        run = instance.get_run_by_id(run_id)
        return run is not None and run.is_finished

    locks.remove_dead(ended)


def remove_checkpoints() -> Iterator[str]:
    """Remove the states of interrupted trainings of recipes that there are no more."""
    for folder in checkpoints().glob("*/*/"):
        if folder.name not in RECIPES:
            shutil.rmtree(folder)
            yield f"{folder} is removed: no recipe of this name is enabled"


def remove_temporary_files() -> Iterator[str]:
    """Remove files that were being written when their process died."""
    home = Settings().local_home
    written = [home / name for name in ("tables", "models", ARCHIVE, RECEIVED)]
    for folder in (*written, *Settings().incoming.glob(f"*/{QUARANTINE}")):
        for path in folder.rglob(".*"):
            if path.is_file() and TEMPORARY_NAME.fullmatch(path.name):
                path.unlink()
                yield f"{path} is removed: it was never finished"


def finish_publications() -> Iterator[str]:
    """Complete changes of a champion that were cut off."""
    for dataset, model in interrupted(Settings().home):
        number = publication(configuration(dataset), dataset, model).finish_interrupted()
        yield f"{model} of {dataset}: the change to version {number}, which was cut off, is completed"


def close_tracked_runs(instance: dg.DagsterInstance, own_run_id: str) -> Iterator[str]:
    """End MLflow runs that steps of earlier runs left running."""
    client = client_of(configuration("any"))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for run in client.search_runs(experiments, "attributes.status = 'RUNNING'"):
        of = run.data.tags.get("dagster.run_id")
        # A shared server may have runs of other homes too.
        if of and of != own_run_id and instance.has_run(of):
            client.set_terminated(run.info.run_id, "KILLED")
            yield f"MLflow run {run.info.run_name} of run {of} is ended: its process is gone"


def _registry_exists() -> bool:
    """Whether there is anything to put in order: asking a database that is not there would make it."""
    uri = configuration("any").tracking_uri
    return not uri.startswith(SQLITE) or database_file(uri).exists()
