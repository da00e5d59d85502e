"""Train a model from its recipe, log the training to MLflow and register the result."""

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from ml import checks
from ml.training.reports import BatchReport, EpochReport
from orchestration.compute.resource import Compute
from orchestration.config.instance_config import trainings_at_once
from orchestration.config.settings import settings
from orchestration.reporting.check_results import require
from orchestration.steps.starting_point import TrainingTask, begin
from orchestration.tracking.registered_version import ATTENTION_FILE, WARM_START, RegisteredVersion
from orchestration.tracking.resource import Tracking

if TYPE_CHECKING:
    from orchestration.tracking.tracked_run import TrackedRun


_ATTENTION_ROWS = 4096  # validation rows, over which the attention maps are averaged


def checkpoints() -> Path:
    """Directory of the checkpoints of running and interrupted trainings, by data set and model."""
    return settings().local_home / "training"


def train_and_register(
    context: dg.AssetExecutionContext, compute: Compute, tracking: Tracking, task: TrainingTask
) -> Generator[dg.AssetCheckResult, None, RegisteredVersion]:
    """Yield the check of the losses, and return the new RegisteredVersion.

    An interrupted training with the same rows, code, settings and first weights is resumed.
    """
    from ml.evaluation import plots
    from ml.evaluation.attention import AttentionMaps
    from ml.models.bundle import ModelBundle
    from ml.training.early_stopping import best_epoch
    from ml.training.threads import share_processors

    share_processors(trainings_at_once())
    name, recipe, tables = task.name, task.recipe, task.tables
    beginning = begin(tracking, task)
    if WARM_START in beginning.tags:
        context.log.info(f"{name}: {beginning.text}")
    fitting = beginning.fitting
    checkpoint = fitting.checkpoint(checkpoints() / tracking.dataset / name, task.fingerprint.whole)
    where = compute.facts(compute.is_remote(fitting))
    with tracking.run(context, name, {**task.fingerprint.tags, **beginning.tags, **where}) as run:
        run.log_setup(
            recipe.within(tables.encoders),
            fitting.network.count_params(),
            tables.interactions,
            tables.encoders.to_dict(),
        )
        reporter = _Reporter(context, name, run)
        reports = compute.train(fitting, reporter.epoch, reporter.batch, checkpoint)
        losses = [report.train_loss for report in reports], [report.val_loss for report in reports]
        run.log_figure(plots.loss_curve(f"{name} on {tracking.dataset}", *losses), "loss_curve.png")
        if maps := AttentionMaps.of(fitting.network, fitting.features, fitting.held_out(_ATTENTION_ROWS)):
            run.log_figure(plots.attention_plot(f"{name} on {tracking.dataset}", maps), "attention.png")
            run.log_document(maps.to_dict(), ATTENTION_FILE)
        best = best_epoch(reports, beginning.recipe.training)
        train_losses, val_losses = (curve[:best] for curve in losses)
        yield from require(name, checks.losses_fall(train_losses, val_losses, beginning.is_warm))
        bundle = ModelBundle.of(
            fitting.serving_network, tables.encoders, tables.users, tables.movies, recipe.numbers, recipe.diversity
        )
        version: RegisteredVersion = run.register(bundle, recipe, step=best)
        compute.forget(checkpoint)
    return version


class _Reporter:
    """Writes a training's progress to the run's log and to MLflow."""

    def __init__(self, context: dg.AssetExecutionContext, name: str, run: "TrackedRun") -> None:
        self._log, self._name, self._run = context.log, name, run

    def epoch(self, report: EpochReport) -> None:
        self._run.log_epoch(report.epoch, train_loss=report.train_loss, val_loss=report.val_loss)
        self._log.info(
            f"{self._name}: epoch {report.epoch} of {report.epochs}, train_loss {report.train_loss:.4f}, "
            f"val_loss {report.val_loss:.4f}, {report.seconds:.0f} s, {report.rows_per_second:,.0f} rows/s"
        )

    def batch(self, report: BatchReport) -> None:
        self._log.info(
            f"{self._name}: epoch {report.epoch} of {report.epochs}, batch {report.batch:,} of {report.batches:,}, "
            f"train_loss {report.loss:.4f}, {report.rows_per_second:,.0f} rows/s, "
            f"about {report.seconds_left:.0f} s left"
        )
