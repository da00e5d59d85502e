"""What several asset modules use."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import pandas as pd

from orchestration.tracking.registered_version import SKIPPED, RegisteredVersion, version_of
from orchestration.tracking.resource import Tracking

METRICS = {"model": "str", "metric": "str", "value": "float64"}  # columns of tables of metrics
OWNERS = ["team:recommendations"]
# For failures that pass: of the network, of a locked database, of a process that ran out of memory.
TRANSIENT = dg.RetryPolicy(max_retries=2, delay=2, backoff=dg.Backoff.EXPONENTIAL)
DOCUMENTS, FOLDS = "document_io_manager", "folds_io_manager"
# Tag of a step: of those that could start, the one with the highest number does. The longest chain of a run is
# collaborative_features and then the models that use them, so starting these first shortens the run.
PRIORITY = "dagster/priority"
LAST = {PRIORITY: "-1"}  # for what no training waits for
COLLABORATIVE = "collaborative_features"  # the asset that all recipes with such features read
ENCODED = "encoded_interactions"  # the asset that recipes with moments read the times of all ratings from


def inputs_of(models: Sequence[str], *parts: str) -> dict[str, dg.AssetIn]:
    """Inputs ``<model>_version`` for each model, and ``<model>_<part>`` for its assets of these names."""
    versions = {f"{model}_version": dg.AssetIn(model) for model in models}
    return versions | {f"{model}_{part}": dg.AssetIn(f"{model}_{part}") for model in models for part in parts}


def trained_models(models: Sequence[str], inputs: Mapping[str, Any]) -> dict[str, RegisteredVersion]:
    """The versions of the models whose recipes were not skipped.

    Args:
        models: names of the models.
        inputs: those of ``inputs_of``.

    Raises:
        dagster.Failure: all were skipped.
    """
    found = {model: version_of(inputs[f"{model}_version"]) for model in models}
    if not any(found.values()):
        reasons = "; ".join(f"{model}: {inputs[f'{model}_version'][SKIPPED]}" for model in models)
        raise dg.Failure(f"No recipe can learn from this data set: {reasons}", allow_retries=False)
    return {model: version for model, version in found.items() if version}


def skipped_tables(trained: Mapping[str, str], tables: Mapping[str, Mapping[str, str]]) -> Iterator[Any]:
    """Materialize empty tables of a model whose recipe was skipped.

    Args:
        trained: the value of the model's asset.
        tables: types of the columns, by the asset's name.
    """
    for asset, columns in tables.items():
        nothing = pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in columns.items()})
        yield dg.MaterializeResult(asset_key=asset, value=nothing, metadata={SKIPPED: trained[SKIPPED]})


def links_of(tracking: Tracking, version: RegisteredVersion) -> dict[str, dg.UrlMetadataValue]:
    """Links to the version's pages in MLflow."""
    return {
        "mlflow_run": dg.MetadataValue.url(tracking.run_url(version.run_id)),
        "registered_model": dg.MetadataValue.url(tracking.version_url(version)),
    }
