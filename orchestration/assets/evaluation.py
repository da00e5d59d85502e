"""How good the models are, beside what needs no network."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from ml import checks
from orchestration.assets.common import MODELS, OWNERS, TRANSIENT
from orchestration.checks import blocking, require
from orchestration.metadata import markdown_table, table_metadata
from orchestration.registered_version import RegisteredVersion
from orchestration.resources.storage import Storage
from orchestration.resources.tracking import Tracking

_COMMON: dict[str, Any] = {"group_name": "evaluation", "owners": OWNERS}


@dg.asset(**_COMMON, kinds={"numpy", "parquet"})
def baseline_metrics(train_interactions: pd.DataFrame, test_interactions: pd.DataFrame) -> dg.MaterializeResult[Any]:
    """Metrics of the random order, the movie mean, a matrix factorisation and the perfect order."""
    from ml.evaluation.report import comparison_table, evaluate_baselines  # noqa: PLC0415 - slow to import

    metrics = evaluate_baselines(train_interactions, test_interactions)
    return dg.MaterializeResult(
        value=metrics, metadata={"metrics": markdown_table(comparison_table([metrics]), index=True)}
    )


def metrics_asset(model: str) -> dg.AssetsDefinition:
    """The asset that measures one trained model on the test rows."""
    name = f"{model}_metrics"

    @dg.asset(
        **_COMMON,
        name=name,
        description=f"Metrics of {model} on the test interactions.",
        kinds={"keras", "mlflow", "parquet"},
        ins={"trained": dg.AssetIn(model)},
        retry_policy=TRANSIENT,
        check_specs=blocking(name, "not_below_random"),
    )
    def metrics(
        tracking: Tracking,
        trained: dict[str, Any],
        test_interactions: pd.DataFrame,
        baseline_metrics: pd.DataFrame,
    ) -> Iterator[Any]:
        from ml.evaluation.report import evaluate  # noqa: PLC0415 - slow to import
        from ml.inference.scorer import Scorer  # noqa: PLC0415

        version = RegisteredVersion(**trained)
        scorer = Scorer(tracking.load_bundle(version))
        found = evaluate(model, test_interactions, scorer.score_encoded(test_interactions))
        values = dict(zip(found["metric"], found["value"].astype(float), strict=True))
        tracking.log_metrics(version, values)
        yield from require(name, checks.not_below_random(found, baseline_metrics))
        run = dg.MetadataValue.url(tracking.run_url(version.run_id))
        yield dg.MaterializeResult(value=found, metadata={**values, "mlflow_run": run})

    return metrics


@dg.asset(
    **_COMMON,
    kinds={"pandas", "parquet"},
    ins={f"{model}_version": dg.AssetIn(model) for model in MODELS}
    | {f"{model}_found": dg.AssetIn(f"{model}_metrics") for model in MODELS},
)
def model_comparison(
    storage: Storage, tracking: Tracking, baseline_metrics: pd.DataFrame, **inputs: Any
) -> dg.MaterializeResult[Any]:
    """Models and baselines side by side; written as evaluation.parquet."""
    from ml.evaluation.report import comparison_table  # noqa: PLC0415 - slow to import

    evaluation = pd.concat([*(inputs[f"{model}_found"] for model in MODELS), baseline_metrics], ignore_index=True)
    path = storage.write_table("evaluation", evaluation)
    versions = [RegisteredVersion(**inputs[f"{model}_version"]) for model in MODELS]
    return dg.MaterializeResult(
        metadata={
            **table_metadata(evaluation),
            "comparison": markdown_table(comparison_table([evaluation]), index=True),
            "path": dg.MetadataValue.path(str(path)),
            "mlflow_comparison": dg.MetadataValue.url(tracking.comparison_url(versions)),
        }
    )


autoint_metrics, autoint_mlp_metrics = map(metrics_asset, MODELS)
