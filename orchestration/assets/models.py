"""The trained models: one MLflow run and one registered version each, from one factory."""

import shutil
from collections.abc import Generator, Mapping
from copy import copy
from typing import Any

import dagster as dg
import pandas as pd
from pydantic import BaseModel, Field, create_model

from ml import checks
from ml.features.feature_map import FeatureMap
from ml.small_charts import line_chart
from ml.training.recipes import PAPER, Recipe, with_values
from orchestration.assets.common import DOCUMENTS, OWNERS, TRANSIENT
from orchestration.config.code_versions import code_version
from orchestration.config.launch_config import LaunchConfig
from orchestration.config.recipes_in_force import RECIPES
from orchestration.reporting.check_results import blocking, require
from orchestration.reporting.metadata import SETTINGS, drawing, figures
from orchestration.resources.storage import Storage
from orchestration.steps.starting_point import TrainingTables
from orchestration.steps.training import checkpoints, train_and_register
from orchestration.tracking.fingerprint import training_fingerprint
from orchestration.tracking.resource import Tracking

_CODE_VERSION = code_version("orchestration.steps.training", "orchestration.steps.starting_point")
RETRAIN = "retrain"  # the launch setting that is no part of a recipe


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
    fields: dict[str, Any] = {}
    for part in ("model", "training"):
        kind = settings_type(f"{name}_{part}", getattr(recipe, part))
        about = type(recipe).model_fields[part].description
        fields[part] = (kind, Field(default=kind(), description=f"{about} Defaults: the recipe's."))
    retrain = Field(
        default=False, description="Train from scratch, even where a version of the same fingerprint is registered."
    )
    fields[RETRAIN] = (bool, retrain)
    return create_model(f"{name}_run", __base__=LaunchConfig, **fields)


def with_settings(recipe: Recipe, settings: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """The recipe with a launch's settings in place of its own."""
    values = {f"{part}.{name}": value for part, own in settings.items() for name, value in own.items()}
    return with_values(recipe, values)


def _built_by(recipe: Recipe) -> str:
    """Digest of what no launch can set, so that a change of it shows in the graph like one of the code."""
    return recipe.fingerprint("search", "model", "training")


def _about(recipe: Recipe) -> str:
    """What the asset's page says of it."""
    signals = "what the training ratings say of user and movie, and " if recipe.signals else ""
    return (
        f"{recipe.description}\n\nLearns from {signals}{', '.join((*recipe.fields, *recipe.multivalued))}. "
        "Gives one MLflow run and one version of the registered model, with the alias challenger; where a version of "
        "the same fingerprint (data, code, recipe, seed) is registered, that one is reused. `retrain: true` in the "
        "Launchpad trains all the same."
    )


def model_asset(name: str, recipe: Recipe) -> dg.AssetsDefinition:
    """The asset that trains, logs and registers one model; its value says which version that was."""
    config_type = launch_settings(name, recipe)

    @dg.asset(
        name=name,
        description=_about(recipe),
        group_name=PAPER if recipe.protocol == PAPER else "models",
        kinds={"keras", "mlflow"},
        owners=OWNERS,
        io_manager_key=DOCUMENTS,
        pool="training",
        retry_policy=TRANSIENT,
        code_version=f"{_CODE_VERSION}-{_built_by(recipe)}",
        metadata={SETTINGS: config_type().model_dump(exclude={RETRAIN})},
        check_specs=blocking(name, "losses_fall"),
    )
    def model(
        context: dg.AssetExecutionContext,
        config: config_type,  # type: ignore[valid-type]
        storage: Storage,
        tracking: Tracking,
        train_interactions: pd.DataFrame,
        feature_map: dict[str, Any],
        users: pd.DataFrame,
        movies: pd.DataFrame,
    ) -> Generator[Any, None, None]:
        settings = config.model_dump(exclude={RETRAIN})  # type: ignore[attr-defined]
        followed = with_settings(recipe, settings)
        fingerprint = training_fingerprint(storage, _CODE_VERSION, followed)
        version = None if config.retrain else tracking.find(name, fingerprint)  # type: ignore[attr-defined]
        reused = version is not None
        if version is None:
            tables = TrainingTables(train_interactions, FeatureMap.from_dict(feature_map), users, movies)
            version = yield from train_and_register(
                context,
                tracking,
                name,
                followed,
                tables,
                fingerprint,
                from_scratch=config.retrain,  # type: ignore[attr-defined]
            )
        record = tracking.training_of(version)
        losses = record.train_losses, record.val_losses
        if reused:
            context.log.info(f"{name}: {version.uri} has the same fingerprint, {fingerprint.whole}, and is reused")
            # Of a training that was interrupted, and is not wanted any more.
            shutil.rmtree(checkpoints() / tracking.dataset / name, ignore_errors=True)
            yield from require(name, checks.losses_fall(*losses, record.is_warm))
        curves = pd.DataFrame({"train_loss": record.train_losses, "val_loss": record.val_losses})
        curves.index += 1  # epochs
        yield dg.MaterializeResult(
            value=version.to_dict(),
            # A forced retraining makes other weights of the same fingerprint.
            data_version=dg.DataVersion(f"{fingerprint.whole}-{version.version}"),
            metadata={
                "loss_curve": drawing("loss by epoch", line_chart(curves)),
                **figures({str(loss): float(curve.iloc[-1]) for loss, curve in curves.items()}),
                "epoch": len(record.train_losses),
                "parameters": record.parameters,
                "training_rows": len(train_interactions),
                "model_version": int(version.version),
                "reused": reused,
                "mlflow_run": dg.MetadataValue.url(tracking.run_url(version.run_id)),
                "registered_model": dg.MetadataValue.url(tracking.version_url(version)),
                **record.beginning,
                SETTINGS: settings,
                **fingerprint.tags,
            },
        )

    return model


models = [model_asset(name, recipe) for name, recipe in RECIPES.items()]
