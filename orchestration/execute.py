"""Execute the job once in this process and its children: ``python -m orchestration.execute SOURCE RUN_TAG``."""

import sys

import dagster as dg

from orchestration.definitions import build_definitions
from orchestration.instance import use_instance
from orchestration.jobs import PIPELINE

START_TAG = "started_by"  # by its value the starter finds the run


def pipeline_job() -> dg.JobDefinition:
    """The job, as child processes load it again."""
    return build_definitions().resolve_job_def(PIPELINE)


def main(source: str, start_tag: str) -> int:
    """Run the job on a source of raw data; gives the exit status."""
    use_instance()
    with dg.DagsterInstance.get() as instance:
        result = dg.execute_job(
            dg.reconstructable(pipeline_job),
            instance=instance,
            run_config={"resources": {"raw_data": {"config": {"source": source}}}},
            tags={START_TAG: start_tag},
        )
    return 0 if result.success else 1


if __name__ == "__main__":
    from orchestration.execute import main as run_main  # children must find pipeline_job in a module by name

    sys.exit(run_main(*sys.argv[1:]))
