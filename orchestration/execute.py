"""Execute a job once in this process and its children.

``python -m orchestration.execute SOURCE SPLIT RUN_TAG [--retrain] [--seed SEED]``. What has not changed since it was
last made is left as it is, except on the paper's split, whose job runs whole.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import dagster as dg

from orchestration.assets.common import MODELS, PAPER_MODELS
from orchestration.definitions import build_definitions
from orchestration.freshness import Planner
from orchestration.instance import use_instance
from orchestration.jobs import JOB_OF_SPLIT, SELECTIONS
from orchestration.resources.source import PAPER, RawData

START_TAG = "started_by"  # by its value the starter finds the run


def pipeline_job(name: str) -> dg.JobDefinition:
    """A job, as child processes load it again."""
    return build_definitions().resolve_job_def(name)


def main(arguments: Sequence[str]) -> int:
    """Run the split's job on a source of raw data; gives the exit status."""
    given = _parser().parse_args(arguments)
    use_instance()
    raw_data = RawData(source=given.source, split=given.split)
    job = JOB_OF_SPLIT[given.split]
    settings: dict[str, Any] = {"retrain": True} if given.retrain else {}
    if given.seed is not None:
        settings["training"] = {"seed": given.seed}
    selection, ops = None, {model: {"config": settings} for model in _models(given.split) if settings}
    with dg.DagsterInstance.get() as instance:
        if job in SELECTIONS:
            graph = build_definitions().resolve_asset_graph()
            plan = Planner(instance, graph, raw_data).plan(SELECTIONS[job], forced=ops)
            selection, ops = plan.selection, ops | plan.ops
        result = dg.execute_job(
            dg.build_reconstructable_job("orchestration.execute", "pipeline_job", (job,)),
            instance=instance,
            run_config={"ops": ops, "resources": {"raw_data": {"config": raw_data.model_dump()}}},
            tags={START_TAG: given.start_tag},
            asset_selection=selection,
        )
    return 0 if result.success else 1


def _models(split: str) -> tuple[str, ...]:
    return PAPER_MODELS if split == PAPER else MODELS


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m orchestration.execute")
    for name in ("source", "split", "start_tag"):
        parser.add_argument(name)
    parser.add_argument("--retrain", action="store_true", help="train every model even if nothing has changed")
    parser.add_argument("--seed", type=int, help="of the trainings, in place of the recipes' own")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
