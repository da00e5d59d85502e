"""The trained models, one asset per recipe: each trains, logs and registers one version."""

import shutil
from collections.abc import Generator, Mapping
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd

from ml import checks
from ml.features.feature_map import FeatureMap
from ml.small_charts import heat_maps, line_chart
from ml.training.recipes import PAPER, Recipe
from orchestration.assets.common import COLLABORATIVE, DOCUMENTS, ENCODED, OWNERS, PRIORITY, TRANSIENT, links_of
from orchestration.compute.resource import Compute
from orchestration.config.code_versions import code_version
from orchestration.config.data_sets import DATA_SETS
from orchestration.config.launch_config import RETRAIN, launch_settings, with_settings
from orchestration.reporting.check_results import blocking, checks_last, require, skipped_check
from orchestration.reporting.metadata import SETTINGS, drawing, figures
from orchestration.resources.storage import Storage
from orchestration.steps.starting_point import TrainingTables, TrainingTask
from orchestration.steps.training import checkpoints, train_and_register
from orchestration.tracking.fingerprint import Fingerprint, training_fingerprint
from orchestration.tracking.registered_version import SKIPPED, RegisteredVersion
from orchestration.tracking.resource import Tracking, TrainingRecord

_CODE_VERSION = code_version("orchestration.steps.training", "orchestration.steps.starting_point")


def model_assets(recipes: Mapping[str, Recipe]) -> list[dg.AssetsDefinition]:
    """One asset per recipe."""
    return [model_asset(name, recipe) for name, recipe in recipes.items()]


def model_asset(name: str, recipe: Recipe) -> dg.AssetsDefinition:
    """The asset that trains, logs and registers one model. Its value names the registered version."""
    config_type = launch_settings(name, recipe)
    of_recipe = {COLLABORATIVE: recipe.signals, ENCODED: recipe.moments}  # inputs that only some recipes have

    @dg.asset(
        name=name,
        partitions_def=DATA_SETS,
        description=_description(recipe),
        ins={name: dg.AssetIn() for name in ("users", "movies", *(name for name, own in of_recipe.items() if own))},
        group_name=PAPER if recipe.protocol == PAPER else "models",
        kinds={"keras", "mlflow"},
        owners=OWNERS,
        io_manager_key=DOCUMENTS,
        pool="training",
        retry_policy=TRANSIENT,
        code_version=f"{_CODE_VERSION}-{_fixed_settings(recipe)}",
        metadata={SETTINGS: config_type().model_dump(exclude={RETRAIN})},
        check_specs=blocking(name, "losses_fall"),
        op_tags={PRIORITY: "1"} if recipe.signals else None,
    )
    @checks_last
    def model(
        context: dg.AssetExecutionContext,
        config: config_type,  # type: ignore[valid-type]
        storage: Storage,
        compute: Compute,
        tracking: Tracking,
        train_interactions: pd.DataFrame,
        feature_map: dict[str, Any],
        **inputs: Any,
    ) -> Generator[Any, None, None]:
        launched: Any = config
        settings = launched.model_dump(exclude={RETRAIN})
        followed = with_settings(recipe, settings)
        fingerprint = training_fingerprint(storage, _CODE_VERSION, followed)
        encoders = FeatureMap.from_dict(feature_map)
        users, movies = inputs["users"], inputs["movies"]
        tables = TrainingTables(train_interactions, encoders, users, movies, inputs.get(COLLABORATIVE), storage.scratch)
        if obstacle := followed.obstacle(tables.encoders):
            context.log.warning(f"{name} is skipped: {obstacle}")
            yield skipped_check(name, "losses_fall", obstacle)
            yield dg.MaterializeResult(value={SKIPPED: obstacle}, metadata={SKIPPED: obstacle})
            return
        if followed.moments:
            tables = tables.with_moments(inputs[ENCODED], followed.moments)
        reused = None if launched.retrain else tracking.find(name, fingerprint)
        if reused:
            yield from _reuse(context, tracking, reused, fingerprint)
        task = TrainingTask(name, followed, tables, fingerprint, from_scratch=launched.retrain)
        version = reused or (yield from train_and_register(context, compute, tracking, task))
        yield dg.MaterializeResult(
            value=version.to_dict(),
            # A forced retraining gives other weights for the same fingerprint.
            data_version=dg.DataVersion(f"{fingerprint.whole}-{version.version}"),
            metadata={
                **_training_metadata(tracking.training_of(version)),
                **_attention_metadata(tracking.attention_of(version)),
                "training_rows": len(train_interactions),
                "model_version": int(version.version),
                "reused": reused is not None,
                "features_left_out": ", ".join(followed.left_out(tables.encoders)) or "none",
                **links_of(tracking, version),
                SETTINGS: settings,
                **fingerprint.tags,
            },
        )

    return model


def _description(recipe: Recipe) -> str:
    signals = "collaborative features and " if recipe.signals else ""
    return (
        f"{recipe.description}\n\nLearns from {signals}{recipe.features}. "
        "Logs one MLflow run and registers one version, with the alias challenger. A registered version of the same "
        "fingerprint (data, code, recipe, seed) is reused; `retrain: true` in the Launchpad trains again in any case."
    )


def _fixed_settings(recipe: Recipe) -> str:
    """Digest of the settings that no launch can change; as part of the code version, a change makes the asset stale."""
    return recipe.fingerprint("search", "model", "training")


def _reuse(
    context: dg.AssetExecutionContext, tracking: Tracking, version: RegisteredVersion, fingerprint: Fingerprint
) -> Generator[dg.AssetCheckResult, None, None]:
    """Report the check of a version that is registered already, and drop the checkpoint of an interrupted training."""
    context.log.info(f"{version.model}: {version.uri} has the same fingerprint, {fingerprint.whole}, and is reused")
    shutil.rmtree(checkpoints() / tracking.dataset / version.model, ignore_errors=True)
    record = tracking.training_of(version)
    yield from require(version.model, checks.losses_fall(record.train_losses, record.val_losses, record.is_warm))


def _training_metadata(record: TrainingRecord) -> dict[str, Any]:
    """The loss curves and what else MLflow knows of a training."""
    curves = pd.DataFrame({"train_loss": record.train_losses, "val_loss": record.val_losses})
    curves.index += 1  # epochs
    return {
        "loss_curve": drawing("loss by epoch", line_chart(curves)),
        **figures({str(loss): float(curve.iloc[-1]) for loss, curve in curves.items()}),
        "epoch": len(record.train_losses),
        "parameters": record.parameters,
        **record.tags,
    }


def _attention_metadata(maps: Mapping[str, Any] | None) -> dict[str, Any]:
    """The attention maps, one for each layer, from the top down, and head, from the left; nothing without them."""
    if maps is None:
        return {}
    drawn = heat_maps(np.array(maps["weights"], float), maps["features"])
    return {"attention": drawing("which features (rows) attend to which (columns, in the same order)", drawn)}
