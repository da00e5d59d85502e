"""Homes with hand-made records, and what the exporter says of them."""

from collections.abc import Mapping
from typing import Any

import dagster as dg
from dagster._core.events import DagsterEvent
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from orchestration.automation.jobs import PIPELINE
from orchestration.config.data_sets import DATA_SETS, PARTITION_TAG, add_partition
from orchestration.exporter.catalog import PREFIX
from orchestration.exporter.collector import PipelineCollector
from orchestration.reporting.check_results import check_spec
from tests.orchestration.conftest import DATASET

Values = dict[tuple[str, ...], float]  # by the values of labels, in the order of the labels' names
_EVENTS = {
    dg.DagsterRunStatus.SUCCESS: dg.DagsterEventType.RUN_SUCCESS,
    dg.DagsterRunStatus.FAILURE: dg.DagsterEventType.RUN_FAILURE,
    dg.DagsterRunStatus.CANCELED: dg.DagsterEventType.RUN_CANCELED,
}


class Scrape:
    """The answer to one request, parsed as Prometheus does.

    Args:
        collector: is asked.
    """

    def __init__(self, collector: PipelineCollector) -> None:
        registry = CollectorRegistry()
        registry.register(collector)
        self.families = [*text_string_to_metric_families(generate_latest(registry).decode())]

    def values(self, name: str) -> Values:
        """All values of a metric."""
        [family] = [each for each in self.families if each.name == PREFIX + name]
        return {
            tuple(sample.labels[label] for label in sorted(sample.labels)): sample.value for sample in family.samples
        }

    def value(self, name: str, *labels: str) -> float:
        """One value, by the values of its labels in the order of their names."""
        return self.values(name)[labels]

    @property
    def errors(self) -> dict[str, float]:
        """The parts that could not be read."""
        return {part: count for (part,), count in self.values("scrape_errors").items() if count}

    @property
    def empty(self) -> set[str]:
        """Metrics without a value."""
        return {family.name.removeprefix(PREFIX) for family in self.families if not family.samples}


def scrape(instance: dg.DagsterInstance) -> Scrape:
    """What the exporter says of the records and of the home in the environment."""
    return Scrape(PipelineCollector(instance))


def add_run(
    instance: dg.DagsterInstance,
    status: dg.DagsterRunStatus,
    *times: float,
    job: str = PIPELINE,
    data_set: str = DATASET,
) -> None:
    """Record a run; of an ended one, ``times`` are its start, if it had one, and its end."""
    add_partition(instance, data_set)
    ended = status in _EVENTS
    begun = dg.DagsterRunStatus.NOT_STARTED if ended else status
    origin = RemoteJobOrigin(RemoteRepositoryOrigin(RegisteredCodeLocationOrigin("here"), "own"), job)
    run = instance.add_run(
        dg.DagsterRun(job_name=job, status=begun, tags={PARTITION_TAG: data_set}, remote_job_origin=origin)
    )
    if ended:
        events = [dg.DagsterEventType.RUN_START, _EVENTS[status]][-len(times) :]
        for event, moment in zip(events, times, strict=True):
            record(instance, run, event, moment)


def record(instance: dg.DagsterInstance, run: dg.DagsterRun, event: dg.DagsterEventType, moment: float) -> None:
    """Record an event of a run at a moment."""
    told = DagsterEvent(event_type_value=event.value, job_name=run.job_name)
    instance.handle_new_event(
        dg.EventLogEntry(
            error_info=None, level=20, user_message="", run_id=run.run_id, timestamp=float(moment), dagster_event=told
        )
    )


class HandMade:
    """Assets named like the pipeline's, with metadata and check results of our own.

    Attributes:
        metadata: of the assets, by name.
        checks: results of checks of ``data_drift``, by name.
        broken: whether the step of ``data_drift`` fails before it has checked anything.
    """

    def __init__(self, metadata: Mapping[str, Mapping[str, Any]], checks: Mapping[str, bool]) -> None:
        self.metadata, self.checks, self.broken = metadata, dict(checks), False

    def run(self, instance: dg.DagsterInstance) -> None:
        """Materialize them all in a run of the pipeline's job."""
        add_partition(instance, DATASET)
        definitions = dg.Definitions(
            assets=[*map(self._asset, self.metadata)], jobs=[dg.define_asset_job(PIPELINE, selection="*")]
        )
        job = definitions.resolve_job_def(PIPELINE)
        job.execute_in_process(instance=instance, partition_key=DATASET, raise_on_error=False)

    def _asset(self, name: str) -> dg.AssetsDefinition:
        checks = self.checks if name == "data_drift" else {}
        specs = [check_spec(check, name, check) for check in checks]

        @dg.asset(name=name, partitions_def=DATA_SETS, check_specs=specs)
        def asset() -> Any:
            if checks and self.broken:
                raise dg.Failure("broken")
            yield dg.MaterializeResult(metadata=self.metadata[name])
            for check in checks:
                yield dg.AssetCheckResult(
                    passed=self.checks[check], check_name=check, severity=dg.AssetCheckSeverity.WARN
                )

        return asset
