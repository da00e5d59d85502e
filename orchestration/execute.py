"""Execute a job once in this process and its children.

``python -m orchestration.execute SOURCE SPLIT RUN_TAG [SEED]``; the seed, in place of the recipes' own, is for the
paper's split.
"""

import sys
from typing import Any

import dagster as dg

from orchestration.assets.common import PAPER_MODELS
from orchestration.definitions import build_definitions
from orchestration.instance import use_instance
from orchestration.jobs import JOB_OF_SPLIT

START_TAG = "started_by"  # by its value the starter finds the run


def pipeline_job(name: str) -> dg.JobDefinition:
    """A job, as child processes load it again."""
    return build_definitions().resolve_job_def(name)


def main(source: str, split: str, start_tag: str, seed: str | None = None) -> int:
    """Run the split's job on a source of raw data; gives the exit status."""
    use_instance()
    config: dict[str, Any] = {"resources": {"raw_data": {"config": {"source": source, "split": split}}}}
    if seed:
        config["ops"] = {model: {"config": {"training": {"seed": int(seed)}}} for model in PAPER_MODELS}
    with dg.DagsterInstance.get() as instance:
        result = dg.execute_job(
            dg.build_reconstructable_job("orchestration.execute", "pipeline_job", (JOB_OF_SPLIT[split],)),
            instance=instance,
            run_config=config,
            tags={START_TAG: start_tag},
        )
    return 0 if result.success else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
