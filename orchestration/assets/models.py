"""The trained models: one MLflow run and one registered version each, from one factory."""

from collections.abc import Iterator, Mapping
from copy import copy
from typing import Any

import dagster as dg
import pandas as pd
from pydantic import BaseModel, ConfigDict, create_model

from ml import checks
from ml.features.feature_map import FeatureMap
from ml.training.recipes import PAPER, Recipe
from ml.training.reports import BatchReport, EpochReport
from ml.training.search import with_values
from orchestration.assets.common import DOCUMENTS, OWNERS, RECIPES, TRANSIENT
from orchestration.checks import blocking, require
from orchestration.metadata import inline_picture
from orchestration.resources.tracking import Tracking
from orchestration.settings import Settings

TRAININGS_AT_ONCE = 2  # as in dagster.yaml


class LaunchConfig(dg.Config):
    """A launch configuration in which an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def settings_type(name: str, of: BaseModel) -> type[LaunchConfig]:
    """A launch configuration like the class of ``of``, its values as defaults."""
    fields: dict[str, Any] = {}
    for field, declared in type(of).model_fields.items():
        info = copy(declared)
        info.default, info.default_factory = getattr(of, field), None
        fields[field] = (declared.annotation, info)
    return create_model(name, __base__=LaunchConfig, **fields)


def launch_settings(name: str, recipe: Recipe) -> type[LaunchConfig]:
    """What can be set at launch in place of the recipe's own values: those of the model and of the training."""
    parts = {part: settings_type(f"{name}_{part}", getattr(recipe, part)) for part in ("model", "training")}
    fields: dict[str, Any] = {part: (kind, kind()) for part, kind in parts.items()}
    return create_model(f"{name}_run", __base__=LaunchConfig, **fields)


def with_settings(recipe: Recipe, settings: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """The recipe with a launch's settings in place of its own."""
    values = {f"{part}.{name}": value for part, own in settings.items() for name, value in own.items()}
    return with_values(recipe, values)


def model_asset(name: str, recipe: Recipe) -> dg.AssetsDefinition:
    """The asset that trains, logs and registers one model; its value says which version that was."""
    config_type = launch_settings(name, recipe)

    @dg.asset(
        name=name,
        description=recipe.description,
        group_name=PAPER if recipe.protocol == PAPER else "models",
        kinds={"keras", "mlflow"},
        owners=OWNERS,
        io_manager_key=DOCUMENTS,
        pool="training",
        retry_policy=TRANSIENT,
        check_specs=blocking(name, "losses_fall"),
    )
    def model(
        context: dg.AssetExecutionContext,
        config: config_type,  # type: ignore[valid-type]
        tracking: Tracking,
        train_interactions: pd.DataFrame,
        feature_map: dict[str, Any],
        users: pd.DataFrame,
        movies: pd.DataFrame,
    ) -> Iterator[Any]:
        from ml.evaluation import plots  # noqa: PLC0415 - Keras, MLflow and Matplotlib are slow to import
        from ml.inference.bundle import ModelBundle  # noqa: PLC0415
        from ml.training.data import TrainingData  # noqa: PLC0415
        from ml.training.early_stopping import best_epoch  # noqa: PLC0415
        from ml.training.fitting import Fitting  # noqa: PLC0415
        from ml.training.processors import share_processors  # noqa: PLC0415

        share_processors(TRAININGS_AT_ONCE)
        followed = with_settings(recipe, config.model_dump())  # type: ignore[attr-defined]
        encoders = FeatureMap.from_dict(feature_map)
        data = TrainingData.of(followed, train_interactions, encoders, movies)
        fitting = Fitting(followed, data)
        backup = fitting.backup(Settings().local_home / "training" / tracking.dataset / name)

        with tracking.run(context, name) as run:
            run.log_setup(followed, fitting.network.count_params(), train_interactions, feature_map)

            def report(epoch: EpochReport) -> None:
                run.log_epoch(epoch.epoch, train_loss=epoch.train_loss, val_loss=epoch.val_loss)
                context.log.info(
                    f"{name}: epoch {epoch.epoch} of {epoch.epochs}, train_loss {epoch.train_loss:.4f}, "
                    f"val_loss {epoch.val_loss:.4f}, {epoch.seconds:.0f} s, {epoch.rows_per_second:,.0f} rows/s"
                )

            def report_batch(batch: BatchReport) -> None:
                context.log.info(
                    f"{name}: epoch {batch.epoch} of {batch.epochs}, batch {batch.batch:,} of {batch.batches:,}, "
                    f"train_loss {batch.loss:.4f}, {batch.rows_per_second:,.0f} rows/s, "
                    f"about {batch.seconds_left:.0f} s left"
                )

            reports = fitting.run(report, report_batch, backup)
            train_losses, val_losses = [r.train_loss for r in reports], [r.val_loss for r in reports]
            curve = plots.loss_curve(f"{name} on {tracking.dataset}", train_losses, val_losses)
            run.log_figure(curve, "loss_curve.png")
            best = best_epoch(reports, followed.training)
            yield from require(name, checks.losses_fall(train_losses[:best], val_losses[:best]))
            bundle = ModelBundle.of(fitting.serving_network, encoders, users, movies, followed.numbers)
            version = run.register(bundle, step=best)
            backup.remove()
        yield dg.MaterializeResult(
            value=version.to_dict(),
            metadata={
                "loss_curve": inline_picture("loss curve", plots.png(curve)),
                "train_loss": train_losses[best - 1],
                "val_loss": val_losses[best - 1],
                "epoch": best,
                "parameters": fitting.network.count_params(),
                "model_version": version.version,
                "mlflow_run": dg.MetadataValue.url(tracking.run_url(version.run_id)),
                "registered_model": dg.MetadataValue.url(tracking.version_url(version)),
            },
        )

    return model


models = [model_asset(name, recipe) for name, recipe in RECIPES.items()]
