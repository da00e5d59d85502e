"""Clean up after crashed runs, before a run begins: no other run is in progress then."""

import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from ml.data.ingestion import QUARANTINE
from ml.files import TEMPORARY_NAME, is_object_store
from ml.published.champions import ARCHIVE, published_datasets, published_models
from orchestration.config import locks
from orchestration.config.recipes_in_force import recipes_in_force
from orchestration.config.settings import settings
from orchestration.config.tracking_config import SQLITE, database_file
from orchestration.resources.raw_data import RECEIVED
from orchestration.resources.storage import SCRATCH
from orchestration.runtime.history import forget_old_runs
from orchestration.steps.top_lists import unfinished_lists
from orchestration.steps.training import checkpoints
from orchestration.tracking.bundles import BUNDLES
from orchestration.tracking.registry import client_of, configuration, publication

_IN_PROGRESS = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_STARTED_SECONDS = 20  # a process that has started the run holds its lock long before
# While this run has its turn, another one that lives can only wait for its own, with its lock. One that has just
# started may not have it yet.
_STARTED_SECONDS_IN_TURN = 2
_END_SECONDS, _POLL_SECONDS = 2, 0.1
_STARTED = {dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING}


def clean_up(instance: dg.DagsterInstance, run_id: str) -> Iterator[str]:
    """Do all of the below for the run that begins; yields a line for each change."""
    yield from fail_crashed_runs(instance, run_id, _STARTED_SECONDS_IN_TURN)
    yield from free_pool_slots(instance, run_id)
    remove_locks(instance)
    yield from forget_old_runs(instance)
    yield from remove_temporary_files()
    yield from remove_checkpoints()
    yield from remove_earlier_copies()
    if not _registry_exists():
        return
    yield from sync_publications()
    yield from close_tracked_runs(instance, run_id)


def fail_crashed_runs(
    instance: dg.DagsterInstance, own_run_id: str | None = None, started_seconds: float = _STARTED_SECONDS
) -> Iterator[str]:
    """Mark crashed runs as failed. Dagster's run monitoring cannot: its launcher does not watch processes.

    Args:
        instance: of the runs.
        own_run_id: the run that asks.
        started_seconds: how old a started run without a lock must be to count as crashed.
    """
    for record in instance.get_run_records(dg.RunsFilter(statuses=_IN_PROGRESS)):
        run = record.dagster_run
        if run.run_id == own_run_id:
            continue
        living = locks.is_living(run.run_id)
        age = (datetime.now(UTC) - record.update_timestamp).total_seconds()
        limit = started_seconds if run.status in _STARTED else settings().run_start_seconds
        if living is False or (living is None and age > limit and not _ends(instance, run.run_id)):
            instance.report_run_failed(run, "The run's process terminated unexpectedly: killed, or the machine stopped")
            yield f"Run {run.run_id} is marked as failed: its process is gone"


def _ends(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a run without a lock ends by itself: it gives up its lock and its turn before Dagster records its end."""
    deadline = time.monotonic() + _END_SECONDS
    while True:
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(_POLL_SECONDS)


def free_pool_slots(instance: dg.DagsterInstance, own_run_id: str) -> Iterator[str]:
    """Free the slots of pools that other runs still hold; trainings would wait for them forever.

    Dagster's daemon frees slots too, but only of runs that it knows to have ended, and ``make run`` needs no daemon.
    A living run waits for its turn and holds no slot yet.
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
            yield f"Run {run_id} has ended: its slots in pools are free again"


def remove_locks(instance: dg.DagsterInstance) -> None:
    """Remove the lock files of crashed runs."""

    def ended(run_id: str) -> bool:
        run = instance.get_run_by_id(run_id)
        return run is not None and run.is_finished

    locks.remove_crashed(ended)


def remove_checkpoints() -> Iterator[str]:
    """Remove what interrupted trainings and searches of recipes that no longer exist have left."""
    lists = {name for recipe in recipes_in_force() for name in (recipe, f"{recipe}_lists")}
    for of, names in ((checkpoints(), {*recipes_in_force()}), (unfinished_lists(), lists)):
        for folder in (folder for folder in of.glob("*/*/") if folder.name not in names):
            shutil.rmtree(folder)
            yield f"{folder} is removed: no enabled recipe has this name"


def remove_temporary_files() -> Iterator[str]:
    """Remove files that a crashed process had not finished writing."""
    home = settings().local_home
    written = [home / name for name in ("tables", "models", ARCHIVE, BUNDLES, RECEIVED)]
    for folder in (*written, *settings().incoming.glob(f"*/{QUARANTINE}")):
        for path in folder.rglob(".*"):
            if path.is_file() and TEMPORARY_NAME.fullmatch(path.name):
                path.unlink()
                yield f"{path} is removed: it is incomplete"
    for folder in (home / SCRATCH).glob("*/"):
        shutil.rmtree(folder)
        yield f"{folder} is removed: a step that crashed left it"


def remove_earlier_copies() -> Iterator[str]:
    """Remove what earlier releases kept: the joined table, and a bundle and a journal outside a champion's archive."""
    home = settings().home
    for table in (home / "tables").glob("*/interactions.parquet"):
        table.unlink()
        yield f"{table} is removed: interactions is a view"
    for dataset in published_datasets(home):
        folder = home / "models" / dataset
        for model in published_models(home, dataset):
            for path in (folder / f"{model}.zip", home / ARCHIVE / dataset / model / "publishing.json"):
                if path.exists():
                    path.unlink()
                    yield f"{path} is removed: readers follow champions.json"
        for empty in (folder, folder.parent) if not is_object_store(folder) else ():
            if empty.is_dir() and not any(empty.iterdir()):
                empty.rmdir()


def sync_publications() -> Iterator[str]:
    """Make exported tables and aliases those of the champions, where a crash or a person left them different."""
    home = settings().home
    for dataset in published_datasets(home):
        config = configuration(dataset)
        for model in published_models(home, dataset):
            if model in config.registered_models:  # not where its recipe is disabled
                for difference in publication(config, dataset, model).sync():
                    yield f"{dataset}: {difference}"


def close_tracked_runs(instance: dg.DagsterInstance, own_run_id: str) -> Iterator[str]:
    """End MLflow runs that crashed steps left running."""
    client = client_of(configuration("any"))
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for run in client.search_runs(experiments, "attributes.status = 'RUNNING'"):
        of = run.data.tags.get("dagster.run_id")
        # A shared server may also have runs of other homes.
        if of and of != own_run_id and instance.has_run(of):
            client.set_terminated(run.info.run_id, "KILLED")
            yield f"MLflow run {run.info.run_name} of run {of} is marked as killed: its process is gone"


def _registry_exists() -> bool:
    """Whether MLflow's database exists: a client would create it."""
    uri = configuration("any").tracking_uri
    return not uri.startswith(SQLITE) or database_file(uri).exists()
