"""Results of checks as Dagster has recorded them for one partition, and how to record others later."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

# Dagster has no public names for the records of a check's executions.
from dagster._core.definitions.asset_checks.asset_check_evaluation import AssetCheckEvaluationTargetMaterializationData
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from orchestration.reporting.materializations import last_record

PLANNED = AssetCheckExecutionRecordStatus.PLANNED  # a run is about to evaluate the check, or has failed before it did
_EVALUATED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}


def latest(
    instance: dg.DagsterInstance, partition: str, checks: Sequence[dg.AssetCheckKey]
) -> Mapping[dg.AssetCheckKey, AssetCheckExecutionRecord]:
    """The latest execution of each check, planned or evaluated; none of a check that never had one."""
    of_partition = PartitionKeyFilter(key=partition)
    return instance.event_log_storage.get_latest_asset_check_execution_by_key(checks, of_partition)


def last_result(
    instance: dg.DagsterInstance, partition: str, check: dg.AssetCheckKey
) -> dg.AssetCheckEvaluation | None:
    """The latest result of a check; None before the first."""
    history = instance.event_log_storage.get_asset_check_execution_history(
        check, limit=1, status=_EVALUATED, partition_filter=PartitionKeyFilter(key=partition)
    )
    return history[0].evaluation if history else None


def replace(
    instance: dg.DagsterInstance, execution: AssetCheckExecutionRecord, result: dg.AssetCheckEvaluation
) -> None:
    """Replace the result of an execution by one that refers to the partition's latest materialization.

    It is recorded as an event of the execution's run: of results without a run, Dagster keeps one per partition only.
    """
    target, last = None, last_record(instance, str(result.partition), result.asset_key)
    if last:
        target = AssetCheckEvaluationTargetMaterializationData(
            storage_id=last.storage_id, run_id=last.run_id, timestamp=last.timestamp
        )
    event: Any = dg.DagsterEvent(
        event_type_value=dg.DagsterEventType.ASSET_CHECK_EVALUATION.value,
        job_name="",
        message=result.description or "",
        event_specific_data=dg.AssetCheckEvaluation(
            asset_key=result.asset_key,
            check_name=result.check_name,
            passed=result.passed,
            metadata=result.metadata,
            target_materialization_data=target,
            severity=result.severity,
            description=result.description,
            blocking=result.blocking,
            partition=result.partition,
        ),
    )
    instance.report_dagster_event(event, run_id=execution.run_id)


def refer_to_latest(instance: dg.DagsterInstance, partition: str, check: dg.AssetCheckKey) -> None:
    """Let the last result, recorded before its asset was written, refer to what was written: the UI shows no others."""
    result = last_result(instance, partition, check)
    execution = latest(instance, partition, [check]).get(check)
    if result and execution:
        replace(instance, execution, result)
