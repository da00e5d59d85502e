"""The trained models: one MLflow run and one registered version each, from one factory."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from ml import checks
from ml.features.feature_map import FeatureMap
from ml.models.config import AutoIntConfig, AutoIntMLPConfig
from ml.training.config import TrainingConfig
from ml.training.reports import BatchReport, EpochReport
from orchestration.assets.common import DOCUMENTS, OWNERS, TRANSIENT
from orchestration.checks import blocking, require
from orchestration.metadata import inline_picture
from orchestration.resources.tracking import Tracking
from orchestration.settings import Settings


class TrainingSettings(dg.Config, TrainingConfig):
    """How the model is fitted."""


class AutoIntSettings(dg.Config, AutoIntConfig):
    """AutoInt's architecture."""


class AutoIntMLPSettings(dg.Config, AutoIntMLPConfig):
    """AutoInt+MLP's architecture."""


class AutoIntRun(dg.Config):
    """Settings of the asset ``autoint``."""

    model: AutoIntSettings = AutoIntSettings()
    training: TrainingSettings = TrainingSettings()


class AutoIntMLPRun(dg.Config):
    """Settings of the asset ``autoint_mlp``."""

    model: AutoIntMLPSettings = AutoIntMLPSettings()
    training: TrainingSettings = TrainingSettings()


def model_asset(name: str, config_type: type[AutoIntRun] | type[AutoIntMLPRun], text: str) -> dg.AssetsDefinition:
    """The asset that trains, logs and registers one model; its value says which version that was."""

    @dg.asset(
        name=name,
        description=text,
        group_name="models",
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
        from ml.models.autoint import build_model  # noqa: PLC0415
        from ml.training.backup import Backup  # noqa: PLC0415
        from ml.training.trainer import train  # noqa: PLC0415

        architecture: AutoIntConfig = config.model  # type: ignore[attr-defined]
        training: TrainingConfig = config.training  # type: ignore[attr-defined]
        encoders = FeatureMap.from_dict(feature_map)
        network = build_model(name, encoders.field_dims, architecture, training.seed)
        folder = Settings().local_home / "training" / tracking.dataset / name
        backup = Backup.of(folder, network, train_interactions, training)

        with tracking.run(context, name) as run:
            run.log_setup(
                {**architecture.model_dump(), **training.model_dump(), "parameters": network.count_params()},
                train_interactions,
                feature_map,
            )

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

            reports = train(network, train_interactions, training, report, report_batch, backup)
            train_losses, val_losses = [r.train_loss for r in reports], [r.val_loss for r in reports]
            curve = plots.loss_curve(f"{name} on {tracking.dataset}", train_losses, val_losses)
            run.log_figure(curve, "loss_curve.png")
            yield from require(name, checks.losses_fall(train_losses, val_losses))
            bundle = ModelBundle.of(network, encoders, users, movies)
            version = run.register(bundle, step=len(reports))
            backup.remove()
        yield dg.MaterializeResult(
            value=version.to_dict(),
            metadata={
                "loss_curve": inline_picture("loss curve", plots.png(curve)),
                "train_loss": train_losses[-1],
                "val_loss": val_losses[-1],
                "parameters": network.count_params(),
                "model_version": version.version,
                "mlflow_run": dg.MetadataValue.url(tracking.run_url(version.run_id)),
                "registered_model": dg.MetadataValue.url(tracking.version_url(version)),
            },
        )

    return model


autoint = model_asset("autoint", AutoIntRun, "AutoInt: self-attention over the feature embeddings.")
autoint_mlp = model_asset("autoint_mlp", AutoIntMLPRun, "AutoInt+MLP: AutoInt with a deep branch beside it.")
