"""What a tuning logs to MLflow. Imported only where MLflow is needed, since it is slow to import."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

from ml.training.reports import EpochReport
from ml.training.tuning import TrialObserver, TrialResult
from orchestration.tracking.registry import git_tags
from orchestration.tracking.resource import Tracking


class TrialRun(TrialObserver):
    """The active MLflow run of one trial."""

    def __init__(self, client: mlflow.MlflowClient, parent_id: str) -> None:
        self._client, self._parent_id = client, parent_id

    def log_epoch(self, report: EpochReport) -> None:
        """The losses of an epoch."""
        mlflow.log_metrics({"train_loss": report.train_loss, "val_loss": report.val_loss}, step=report.epoch)

    def log_result(self, result: TrialResult) -> None:
        """How the trial ended, and to the tuning's run the best loss so far."""
        mlflow.set_tag("state", result.state)
        if math.isfinite(result.val_loss):
            mlflow.log_metric("best_val_loss", result.val_loss)
        if result.best_loss is not None:
            self._client.log_metric(self._parent_id, "best_val_loss", result.best_loss, step=result.number)


class TuningRun:
    """The active MLflow run of a tuning, in which every trial has a run of its own."""

    def __init__(self, tracking: Tracking, run_id: str, tags: Mapping[str, str]) -> None:
        self.run_id = run_id
        self._tracking, self._tags = tracking, {**tags, "kind": "trial"}

    @contextmanager
    def trial(self, number: int, values: Mapping[str, Any]) -> Iterator[TrialRun]:
        """Log one trial."""
        with self._tracking.active_run(f"trial {number}", self._tags, nested=True):
            mlflow.log_params(dict(values))
            try:
                yield TrialRun(self._tracking.client, self.run_id)
            except BaseException:
                mlflow.set_tag("state", "FAIL")
                raise

    def log_recipe(self, text: str, name: str) -> None:
        """The recipe file that came of it, as an artifact of this name."""
        mlflow.log_text(text, name)


@contextmanager
def tuning_run(tracking: Tracking, model: str, run_id: str | None) -> Iterator[TuningRun]:
    """Log a tuning as one MLflow run, which goes on with an earlier one where that still exists.

    Args:
        tracking: of the data set.
        model: the recipe's name.
        run_id: of the earlier run.
    """
    tags = {"dataset": tracking.dataset, "model": model, "kind": "tuning", **git_tags()}
    with tracking.session():
        earlier = _existing(tracking, run_id)
        if earlier:
            _close_trials(tracking, earlier)
        with tracking.active_run(f"tune {model}", tags, earlier) as active:
            yield TuningRun(tracking, active, tags)


def _existing(tracking: Tracking, run_id: str | None) -> str | None:
    tracking.experiment_id()  # makes the database where it is missing
    if run_id is None:
        return None
    try:
        return run_id if tracking.client.get_run(run_id).info.lifecycle_stage == "active" else None
    except MlflowException:
        return None


def _close_trials(tracking: Tracking, run_id: str) -> None:
    """End the runs of trials that a killed process left running."""
    mine = f"attributes.status = 'RUNNING' and tags.mlflow.parentRunId = '{run_id}'"
    for run in tracking.client.search_runs([tracking.experiment_id()], mine):
        tracking.client.set_tag(run.info.run_id, "state", "FAIL")
        tracking.client.set_terminated(run.info.run_id, "KILLED")
