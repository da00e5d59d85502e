"""Execute a job once in this process and its children: ``python -m orchestration.execute SOURCE SPLIT RUN_TAG``."""

import sys

import dagster as dg

from orchestration.definitions import build_definitions
from orchestration.instance import use_instance
from orchestration.jobs import PIPELINE, TEMPORAL_EVALUATION
from orchestration.resources.source import RANDOM

START_TAG = "started_by"  # by its value the starter finds the run


def pipeline_job(name: str) -> dg.JobDefinition:
    """A job, as child processes load it again."""
    return build_definitions().resolve_job_def(name)


def main(source: str, split: str, start_tag: str) -> int:
    """Run the split's job on a source of raw data; gives the exit status."""
    use_instance()
    with dg.DagsterInstance.get() as instance:
        result = dg.execute_job(
            dg.build_reconstructable_job(
                "orchestration.execute", "pipeline_job", (PIPELINE if split == RANDOM else TEMPORAL_EVALUATION,)
            ),
            instance=instance,
            run_config={"resources": {"raw_data": {"config": {"source": source, "split": split}}}},
            tags={START_TAG: start_tag},
        )
    return 0 if result.success else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
