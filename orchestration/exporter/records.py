"""Readings of what Dagster has recorded of a data set."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from orchestration.assets.ingestion import BATCHES, LEFT
from orchestration.assets.operations import RUN_PLAN
from orchestration.automation.jobs import JOB_OF_SPLIT
from orchestration.automation.staleness import TOP_LISTS
from orchestration.config.data_sets import PARTITION_TAG, DataSet, scheduled_names
from orchestration.config.recipes_in_force import reference_models
from orchestration.exporter.catalog import EVALUATED, QUALITY, Reading
from orchestration.reporting.check_results import ON_TIME
from orchestration.reporting.materializations import last_materialization
from orchestration.reporting.recorded_checks import PLANNED, last_result, latest

TABLES = ("users", "movies", "ratings", "train_interactions", "test_interactions")
DRIFT = "data_drift"
_COMPARISON = "model_comparison"
_DRIFT_CHECKS = ("counts", "positive_share", "population_stability", "unknown_codes")
_OF_FEATURES = {"stability_index_": "feature_stability_index", "unknown_share_": "feature_unknown_ratio"}
_OUTCOMES = {
    "ingested": "files_ingested",
    "quarantined": "files_quarantined",
    "left": LEFT,
    "repeated": "files_repeated",
}
_STATUS = dg.DagsterRunStatus
_IN_PROGRESS = (_STATUS.STARTING, _STATUS.STARTED, _STATUS.CANCELING)


@dataclass(frozen=True)
class Records:
    """What Dagster has recorded of one data set.

    Attributes:
        instance: holds the records.
        data_set: the data set and its split.
    """

    instance: dg.DagsterInstance
    data_set: DataSet

    @property
    def key(self) -> str:
        """The partition key."""
        return self.data_set.key

    def last_run(self, *statuses: dg.DagsterRunStatus) -> dg.RunRecord | None:
        """The last run of the data set's job with one of these statuses; none of a split that has no job."""
        job, tags = JOB_OF_SPLIT.get(self.data_set.split), {PARTITION_TAG: self.key}
        if job is None:
            return None
        wanted = dg.RunsFilter(job_name=job, statuses=statuses, tags=tags)
        return next(iter(self.instance.get_run_records(wanted, limit=1)), None)

    def unfinished(self) -> list[dg.DagsterRunStatus]:
        """The statuses of the runs of any job that have not ended."""
        wanted = dg.RunsFilter(statuses=[*_IN_PROGRESS, _STATUS.QUEUED], tags={PARTITION_TAG: self.key})
        return [run.status for run in self.instance.get_runs(wanted)]

    def metadata(self, asset: str) -> Mapping[str, Any]:
        """Plain metadata of the last materialization of an asset; empty before the first."""
        last = last_materialization(self.instance, self.key, dg.AssetKey(asset))
        return {name: value.value for name, value in last.metadata.items()} if last else {}


def runs(records: Records) -> Iterator[Reading]:
    """The runs of a data set."""
    of = (records.key,)
    yield Reading("scheduled", records.key in scheduled_names(), of)
    success = records.last_run(_STATUS.SUCCESS)
    if success and success.end_time:
        yield Reading("last_success_timestamp_seconds", success.end_time, of)
    last = records.last_run(_STATUS.SUCCESS, _STATUS.FAILURE)
    if last and last.end_time:
        yield Reading("last_run_failed", last.dagster_run.status is _STATUS.FAILURE, of)
        yield Reading("last_run_timestamp_seconds", last.end_time, of)
        if last.start_time:
            yield Reading("last_run_duration_seconds", last.end_time - last.start_time, of)
    unfinished = records.unfinished()
    queued = unfinished.count(_STATUS.QUEUED)
    yield Reading("runs_in_progress", len(unfinished) - queued, of)
    yield Reading("runs_queued", queued, of)


def tables(records: Records) -> Iterator[Reading]:
    """The rows of the tables that models are trained and measured on."""
    for table in TABLES:
        rows = records.metadata(table).get("dagster/row_count")
        if rows is not None:
            yield Reading("table_rows", rows, (records.key, table))


def ingestion(records: Records) -> Iterator[Reading]:
    """What became of the files of the last ingestion."""
    found = records.metadata(BATCHES)
    for outcome, name in _OUTCOMES.items():
        if name in found:
            yield Reading("last_ingestion_files", found[name], (records.key, outcome))


def evaluation(records: Records) -> Iterator[Reading]:
    """The metrics of the versions that were last evaluated."""
    for name, value in records.metadata(_COMPARISON).items():
        model, _, metric = name.partition(".")
        if metric in QUALITY:
            yield Reading(f"{EVALUATED}{metric}", value, (records.key, model))


def checks(records: Records) -> Iterator[Reading]:
    """The last results of the checks that warn; those that do not warn fail their run."""
    keys = check_keys()
    found = latest(records.instance, records.key, keys)
    drifted = []
    for key in (key for key in keys if key in found):
        record, asset = found[key], key.asset_key.to_user_string()
        planned = record.status is PLANNED
        result = last_result(records.instance, records.key, key) if planned else record.evaluation
        if result:
            yield Reading("check_passed", result.passed, (records.key, asset, key.name))
            drifted += [not result.passed] if asset == DRIFT else []
    if drifted:
        yield Reading("drift_findings", sum(drifted), (records.key,))


def drift(records: Records) -> Iterator[Reading]:
    """How far each feature of the last ingestion is from the earlier ones."""
    for name, value in records.metadata(DRIFT).items():
        for start, metric in _OF_FEATURES.items():
            if name.startswith(start):
                yield Reading(metric, value, (records.key, name.removeprefix(start)))


def daemons(instance: dg.DagsterInstance) -> Iterator[Reading]:
    """When the parts of Dagster's daemon last reported; none before ``make ui`` first ran."""
    for name, heartbeat in instance.get_daemon_heartbeats().items():
        yield Reading("daemon_heartbeat_timestamp_seconds", heartbeat.timestamp, (name.lower(),))


def check_keys() -> list[dg.AssetCheckKey]:
    """The checks that warn. Raises DataError where recipes.yaml is damaged."""
    names = {
        RUN_PLAN: [ON_TIME],
        BATCHES: ["all_taken_in"],
        DRIFT: _DRIFT_CHECKS,
        _COMPARISON: ["metric_drops"],
        TOP_LISTS: [ON_TIME, *(f"{name}_{model}" for model in reference_models() for name in ("promoted", "stable"))],
    }
    return [dg.AssetCheckKey(dg.AssetKey(asset), name) for asset, own in names.items() for name in own]
