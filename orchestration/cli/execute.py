"""Execute a job once in this process and its children: ``python -m orchestration execute SOURCE SPLIT RUN_TAG``.

Only stale assets are rebuilt, except on the paper's split, whose job always runs in full.
"""

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
from orchestration.config.recipes_in_force import paper_models, reference_models
from orchestration.config.writer import claim_home
from orchestration.definitions import definitions_of
from orchestration.resources.raw_data import RawData
from orchestration.runtime.instance import use_instance

START_TAG = "started_by"  # its value identifies the run for the process that started it
# The names in workspace.yaml and pyproject.toml, and of Dagster for the definitions of a code location.
CODE_LOCATION, _REPOSITORY = "movie_recommender", "__repository__"


def pipeline_job(name: str) -> dg.JobDefinition:
    """A job; child processes load it by this function."""
    return definitions_of(name).resolve_job_def(name)


def main(*arguments: str) -> int:
    """Run the split's job on a source of raw data; gives the exit status. Raises DataError."""
    given = _parser().parse_args(arguments)
    claim_home()
    use_instance()
    raw_data = RawData(source=given.source, split=given.split)
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
        run_config = {"ops": ops, "resources": {"raw_data": {"config": raw_data.model_dump()}}}
        success = _execute(instance, job, run_config, {START_TAG: given.start_tag}, selection)
    return 0 if success else 1


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
    reconstructable = dg.build_reconstructable_job("orchestration.cli.execute", "pipeline_job", (job,))
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m orchestration execute")
    for name in ("source", "split", "start_tag"):
        parser.add_argument(name)
    parser.add_argument("--retrain", action="store_true", help="train every model again, even if nothing has changed")
    parser.add_argument("--months", nargs=2, help="only rank for the months from the first to the last")
    parser.add_argument("--seed", type=int, help="seed of the trainings, instead of the recipes' own")
    return parser
