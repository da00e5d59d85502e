"""Sensors, which Dagster's daemon evaluates while ``make ui`` runs."""

from collections.abc import Iterator

import dagster as dg

from orchestration.automation import alerts
from orchestration.config.data_sets import PARTITION_TAG
from orchestration.reporting.failures import reason_of
from orchestration.runtime.cleanup import fail_crashed_runs

_SECONDS = 30
_NO_WEBHOOK = "ALERT_WEBHOOK_URL is not set"


@dg.sensor(
    name="dead_runs",
    minimum_interval_seconds=_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Marks runs as failed whose process was killed, so that the queue continues.",
)
def dead_runs(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Called by Dagster."""
    found = list(fail_crashed_runs(context.instance))
    return dg.SkipReason("; ".join(found) or "No run has crashed")


@dg.run_failure_sensor(
    name="alert_on_failure",
    minimum_interval_seconds=_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Posts to the webhook when a run fails.",
)
def alert_on_failure(context: dg.RunFailureSensorContext) -> dg.SkipReason | None:
    """Called by Dagster."""
    steps = [(event.step_key or "", reason_of(event)) for event in context.get_step_failure_events()]
    sent = alerts.post(alerts.failure_text(context.dagster_run, steps, context.failure_event.message))
    return None if sent else dg.SkipReason(_NO_WEBHOOK)


@dg.run_status_sensor(
    name="alert_on_recovery",
    run_status=dg.DagsterRunStatus.SUCCESS,
    minimum_interval_seconds=_SECONDS,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Posts to the webhook when a job succeeds after it failed, and when a run ends in warnings.",
)
def alert_on_recovery(context: dg.RunStatusSensorContext) -> dg.SkipReason | None:
    """Called by Dagster."""
    run, texts = context.dagster_run, []
    if _failed_before(context.instance, run):
        texts.append(alerts.recovery_text(run))
    if warnings := list(_warnings(context.instance, run)):
        texts.append(alerts.warning_text(run, warnings))
    if not texts:
        return dg.SkipReason("Nothing to report: no recovery and no warnings")
    sent = [alerts.post(text) for text in texts]
    return None if all(sent) else dg.SkipReason(_NO_WEBHOOK)


def _failed_before(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether the job's run before this one, on the same data set, failed."""
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE]
    data_set = {name: value for name, value in run.tags.items() if name == PARTITION_TAG}
    before = dg.RunsFilter(job_name=run.job_name, statuses=ended, tags=data_set)
    runs = instance.get_runs(before, cursor=run.run_id, limit=1)
    return bool(runs) and runs[0].status is dg.DagsterRunStatus.FAILURE


def _warnings(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Iterator[str]:
    """The descriptions of failed checks that warn, as the run's steps recorded them."""
    for record in instance.get_records_for_run(run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION).records:
        event = record.event_log_entry.dagster_event
        check = event.asset_check_evaluation_data if event and event.step_key else None
        if check and not check.passed:
            yield check.description or f"{check.check_name} of {check.asset_key.to_user_string()} did not pass"


sensors = [dead_runs, alert_on_failure, alert_on_recovery]
