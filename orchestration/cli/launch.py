"""Launch a job in this process: plan what is stale, then execute."""

import argparse
from typing import Any

import dagster as dg
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.storage.tags import REPOSITORY_LABEL_TAG

from ml.features.splits import PAPER
from orchestration.assets.monthly import MONTHLY_RECOMMENDATIONS, RANK_MONTHS
from orchestration.automation.jobs import JOB_OF_SPLIT, SELECTIONS
from orchestration.automation.staleness import Planner
from orchestration.cli.console import START_TAG
from orchestration.config.data_sets import PARTITION_TAG, DataSet, add_partition, register
from orchestration.config.recipes_in_force import paper_models, reference_models
from orchestration.definitions import definitions_of
from orchestration.resources.raw_data import RawData

# The names in workspace.yaml and pyproject.toml, and of Dagster for the definitions of a code location.
CODE_LOCATION, _REPOSITORY = "movie_recommender", "__repository__"


def pipeline_job(name: str) -> dg.JobDefinition:
    """A job; child processes load it by this function."""
    return definitions_of(name).resolve_job_def(name)


def launch(given: argparse.Namespace) -> bool:
    """Run the split's job on a source of raw data; gives whether it succeeded.

    Args:
        given: the arguments of ``orchestration.cli.execute``.

    Raises:
        DataError: the source cannot be used, or the configuration is faulty.
    """
    raw_data = RawData.of(DataSet(register(given.source), given.split).key)
    job = MONTHLY_RECOMMENDATIONS if given.months else JOB_OF_SPLIT[given.split]
    settings: dict[str, Any] = {"retrain": True} if given.retrain else {}
    if given.seed is not None:
        settings["training"] = {"seed": given.seed}
    selection, ops = None, {model: {"config": settings} for model in _models(given.split) if settings}
    if given.months:
        ops = {RANK_MONTHS: {"config": dict(zip(("first", "last"), given.months, strict=True))}}
    with dg.DagsterInstance.get() as instance:
        if job in SELECTIONS:
            graph = definitions_of(job).resolve_asset_graph()
            plan = Planner(instance, graph, raw_data).plan(SELECTIONS[job], forced=ops)
            selection, ops = plan.selection, ops | plan.ops
        add_partition(instance, raw_data.dataset)
        tags = {START_TAG: given.start_tag, PARTITION_TAG: raw_data.dataset}
        return _execute(instance, job, {"ops": ops}, tags, selection)


def _execute(
    instance: dg.DagsterInstance,
    job: str,
    run_config: dict[str, Any],
    tags: dict[str, str],
    selection: list[dg.AssetKey] | None,
) -> bool:
    """Like ``dagster.execute_job``, but the run belongs to the code location; gives whether it succeeded.

    Without an origin, the UI does not list the run under its job and warns before it is re-executed. Dagster has no
    public way to set one.
    """
    reconstructable = dg.build_reconstructable_job("orchestration.cli.launch", "pipeline_job", (job,))
    location = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(CODE_LOCATION), _REPOSITORY)
    run = instance.create_run_for_job(
        reconstructable.get_definition(),
        run_config=run_config,
        tags={**tags, REPOSITORY_LABEL_TAG: location.get_label()},
        asset_selection=frozenset(selection) if selection else None,
        remote_job_origin=RemoteJobOrigin(location, job),
        job_code_origin=reconstructable.get_python_origin(),
    )
    return execute_run(reconstructable, run, instance).success


def _models(split: str) -> tuple[str, ...]:
    return paper_models() if split == PAPER else reference_models()
