"""Log a tuning to MLflow. Imported only where MLflow is needed, since MLflow is slow to import."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import mlflow

from ml.training.reports import EpochReport
from ml.training.tuning import TrialObserver, TrialResult
from orchestration.tracking.publication import found_in_registry
from orchestration.tracking.registry import git_tags
from orchestration.tracking.resource import Tracking
from orchestration.tracking.server import ACTIVE


class TrialRun(TrialObserver):
    """The active MLflow run of one trial."""

    def __init__(self, client: mlflow.MlflowClient, parent_id: str) -> None:
        self._client, self._parent_id = client, parent_id

    def log_epoch(self, report: EpochReport) -> None:
        """Log the losses of an epoch."""
        mlflow.log_metrics({"train_loss": report.train_loss, "val_loss": report.val_loss}, step=report.epoch)

    def log_result(self, result: TrialResult) -> None:
        """Log the trial's result, and the best loss so far to the tuning's run."""
        mlflow.set_tag("state", result.state)
        if math.isfinite(result.val_loss):
            mlflow.log_metric("best_val_loss", result.val_loss)
        if result.best_loss is not None:
            self._client.log_metric(self._parent_id, "best_val_loss", result.best_loss, step=result.number)


class TuningRun:
    """The active MLflow run of a tuning; each trial has a child run."""

    def __init__(self, tracking: Tracking, run_id: str, tags: Mapping[str, str]) -> None:
        self.run_id = run_id
        self._tracking, self._tags = tracking, {**tags, "kind": "trial"}

    @contextmanager
    def trial(self, number: int, values: Mapping[str, Any]) -> Iterator[TrialRun]:
        """Log one trial and its settings by dotted name."""
        with self._tracking.active_run(f"trial {number}", self._tags, nested=True):
            mlflow.log_params(dict(values))
            try:
                yield TrialRun(self._tracking.client, self.run_id)
            except BaseException:
                mlflow.set_tag("state", "FAIL")
                raise

    def log_recipe(self, text: str, name: str) -> None:
        """Log the resulting recipe file to the run's artifacts under this name."""
        mlflow.log_text(text, name)


@contextmanager
def tuning_run(tracking: Tracking, model: str, run_id: str | None) -> Iterator[TuningRun]:
    """Log a tuning as one MLflow run. An earlier run is resumed where it still exists.

    Args:
        tracking: of the data set.
        model: the recipe's name.
        run_id: of the earlier run.
    """
    tags = {"dataset": tracking.dataset, "model": model, "kind": "tuning", **git_tags()}
    with tracking.session():
        earlier = run_id if run_id and _is_active(tracking, run_id) else None
        if earlier:  # a killed process has left a trial's run running
            for trial in tracking.end_running(f"tags.mlflow.parentRunId = '{earlier}'"):
                tracking.client.set_tag(trial, "state", "FAIL")
        with tracking.active_run(f"tune {model}", tags, earlier) as active:
            yield TuningRun(tracking, active, tags)


def _is_active(tracking: Tracking, run_id: str) -> bool:
    tracking.experiment_id()  # restores the runs of a deleted experiment
    run = found_in_registry(lambda: tracking.client.get_run(run_id))
    return run is not None and run.info.lifecycle_stage == ACTIVE
