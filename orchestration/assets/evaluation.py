"""How good the models are, beside what needs no network."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from ml import checks, schema
from ml.checks import Finding
from ml.errors import DataError
from ml.training.recipes import PAPER
from orchestration.assets.common import MODELS, MONITORING, OWNERS, PAPER_MODELS, TRANSIENT, inputs_of
from orchestration.checks import blocking, require, warning
from orchestration.code_versions import code_version
from orchestration.metadata import inline_picture, markdown_table, table_metadata
from orchestration.registered_version import RegisteredVersion
from orchestration.resources.storage import Storage
from orchestration.resources.tracking import Tracking

_VERSIONED: dict[str, Any] = {"owners": OWNERS, "code_version": code_version(__name__)}
_COMMON: dict[str, Any] = {"group_name": "evaluation", **_VERSIONED}
_PAPER: dict[str, Any] = {"group_name": PAPER, **_VERSIONED}
_COMPARED_BASELINES = ("movie_mean", "matrix_factorization")
_NO_DROPS = "No model's metric is worse than in the last evaluation by more than monitoring.yaml accepts."


@dg.asset(**_COMMON, kinds={"numpy", "parquet"})
def baseline_scores(train_interactions: pd.DataFrame, test_interactions: pd.DataFrame) -> pd.DataFrame:
    """Scores of the test rows by the random order, the movie mean, a matrix factorisation and the perfect order."""
    from ml.evaluation.report import baseline_scores  # noqa: PLC0415 - slow to import

    return baseline_scores(train_interactions, test_interactions)


@dg.asset(**_COMMON, kinds={"numpy", "parquet"})
def baseline_metrics(test_interactions: pd.DataFrame, baseline_scores: pd.DataFrame) -> dg.MaterializeResult[Any]:
    """Metrics of the baselines."""
    from ml.evaluation.report import comparison_table, evaluate_baselines  # noqa: PLC0415 - slow to import

    metrics = evaluate_baselines(test_interactions, baseline_scores)
    return dg.MaterializeResult(
        value=metrics, metadata={"metrics": markdown_table(comparison_table([metrics]), index=True)}
    )


def metrics_assets(model: str, common: dict[str, Any]) -> dg.AssetsDefinition:
    """The assets that score the test rows with one trained model and measure the scores."""
    scores_name, metrics_name = f"{model}_scores", f"{model}_metrics"

    @dg.multi_asset(
        name=f"evaluate_{model}",
        outs={
            scores_name: dg.AssetOut(
                description=f"Probabilities of {model} for the test interactions.",
                kinds={"keras", "parquet"},
                **common,
            ),
            metrics_name: dg.AssetOut(
                description=f"Metrics of {model} on the test interactions.",
                kinds={"keras", "mlflow", "parquet"},
                **common,
            ),
        },
        ins={"trained": dg.AssetIn(model)},
        retry_policy=TRANSIENT,
        check_specs=blocking(metrics_name, "not_below_random"),
    )
    def evaluate_model(
        tracking: Tracking,
        trained: dict[str, Any],
        test_interactions: pd.DataFrame,
        baseline_metrics: pd.DataFrame,
    ) -> Iterator[Any]:
        from ml.evaluation import plots  # noqa: PLC0415 - slow to import
        from ml.evaluation.calibration import reliability  # noqa: PLC0415
        from ml.evaluation.report import evaluate  # noqa: PLC0415
        from ml.inference.scorer import Scorer  # noqa: PLC0415

        version = RegisteredVersion(**trained)
        scores = Scorer(tracking.load_bundle(version)).score_encoded(test_interactions)
        found = evaluate(model, test_interactions, scores)
        values = dict(zip(found["metric"], found["value"].astype(float), strict=True))
        plot = plots.reliability_plot(model, reliability(test_interactions[schema.LABEL].to_numpy(), scores))
        tracking.log_evaluation(version, values, {"reliability.png": plot})
        yield from require(metrics_name, checks.not_below_random(found, baseline_metrics))
        yield dg.MaterializeResult(asset_key=scores_name, value=pd.DataFrame({"score": scores}))
        shown = {
            "mlflow_run": dg.MetadataValue.url(tracking.run_url(version.run_id)),
            "reliability": inline_picture("reliability", plots.png(plot)),
        }
        yield dg.MaterializeResult(asset_key=metrics_name, value=found, metadata={**values, **shown})

    return evaluate_model


@dg.asset(
    **_COMMON,
    kinds={"pandas", "parquet"},
    ins=inputs_of(MODELS, "scores", "metrics", "lists", "list_metrics"),
    check_specs=[dg.AssetCheckSpec("metric_drops", asset="model_comparison", description=_NO_DROPS)],
)
def model_comparison(
    storage: Storage,
    tracking: Tracking,
    train_interactions: pd.DataFrame,
    test_interactions: pd.DataFrame,
    baseline_metrics: pd.DataFrame,
    baseline_scores: pd.DataFrame,
    baseline_lists: pd.DataFrame,
    baseline_list_metrics: pd.DataFrame,
    **inputs: Any,
) -> Iterator[Any]:
    """Models and baselines side by side, by pair with intervals, and by how active users are.

    Written as evaluation.parquet, comparison.parquet and evaluation_by_activity.parquet.
    """
    from ml.evaluation.activity import metrics_by_activity  # noqa: PLC0415 - slow to import
    from ml.evaluation.intervals import compare_lists, compare_models  # noqa: PLC0415
    from ml.evaluation.report import comparison_by_split, comparison_table  # noqa: PLC0415

    own = [inputs[f"{model}_{part}"] for part in ("metrics", "list_metrics") for model in MODELS]
    evaluation = pd.concat([*own, baseline_metrics, baseline_list_metrics], ignore_index=True)
    scores = {model: inputs[f"{model}_scores"]["score"].to_numpy() for model in MODELS}
    scores |= {name: baseline_scores[name].to_numpy() for name in _COMPARED_BASELINES}
    lists = {model: inputs[f"{model}_lists"] for model in MODELS}
    lists |= {str(name): table for name, table in baseline_lists.groupby("model", sort=False)}
    differences = [compare_models(test_interactions, scores), compare_lists(test_interactions, lists)]
    comparison = pd.concat(differences, ignore_index=True)
    activity = pd.concat(
        [metrics_by_activity(name, train_interactions, test_interactions, values) for name, values in scores.items()],
        ignore_index=True,
    )
    yield _compare_with_the_last(storage, evaluation)
    tables = {"evaluation": evaluation, "comparison": comparison, "evaluation_by_activity": activity}
    paths = {name: storage.write_table(name, table) for name, table in tables.items()}
    versions = [RegisteredVersion(**inputs[f"{model}_version"]) for model in MODELS]
    yield dg.MaterializeResult(
        metadata={
            **table_metadata(evaluation),
            **storage.stored(*(path.name for path in paths.values())),
            "comparison": markdown_table(comparison_table([evaluation]), index=True),
            "comparison_by_split": markdown_table(comparison_by_split(storage.evaluations()), index=True),
            "differences_with_95_percent_intervals": markdown_table(comparison),
            "by_activity": markdown_table(activity),
            **{f"{name}_path": dg.MetadataValue.path(str(path)) for name, path in paths.items()},
            "mlflow_comparison": dg.MetadataValue.url(tracking.comparison_url(versions)),
        }
    )


def _compare_with_the_last(storage: Storage, evaluation: pd.DataFrame) -> dg.AssetCheckResult:
    """The check ``metric_drops`` of the models; call it before evaluation.parquet is replaced."""
    from ml.evaluation import stability  # noqa: PLC0415 - as the modules beside it

    try:
        before = storage.find_table("evaluation", ["model", "metric", "value"])
    except DataError as error:  # whoever damaged it should hear of it, and the new table should take its place
        found = Finding("metric_drops", False, {"summary": f"Not compared with the last evaluation: {error}"})
        return warning("model_comparison", found)
    before = evaluation.iloc[:0] if before is None else before
    drops = stability.metric_drops(before, evaluation[evaluation["model"].isin(MODELS)])
    shown = {"changes": markdown_table(drops)}
    return warning("model_comparison", stability.no_metric_drops(drops, MONITORING.metric_drop), shown)


@dg.asset(**_PAPER, kinds={"pandas", "parquet"}, ins=inputs_of(PAPER_MODELS, "metrics"))
def paper_comparison(
    storage: Storage, tracking: Tracking, baseline_metrics: pd.DataFrame, **inputs: Any
) -> dg.MaterializeResult[Any]:
    """The models of the paper's protocol and the baselines side by side; written as evaluation.parquet."""
    from ml.evaluation.report import comparison_table  # noqa: PLC0415 - slow to import

    evaluation = pd.concat(
        [*(inputs[f"{model}_metrics"] for model in PAPER_MODELS), baseline_metrics], ignore_index=True
    )
    path = storage.write_table("evaluation", evaluation)
    versions = [RegisteredVersion(**inputs[f"{model}_version"]) for model in PAPER_MODELS]
    return dg.MaterializeResult(
        metadata={
            **table_metadata(evaluation),
            **storage.stored(path.name),
            "comparison": markdown_table(comparison_table([evaluation]), index=True),
            "evaluation_path": dg.MetadataValue.path(str(path)),
            "mlflow_comparison": dg.MetadataValue.url(tracking.comparison_url(versions)),
        }
    )


evaluations = [metrics_assets(model, _COMMON) for model in MODELS]
paper_evaluations = [metrics_assets(model, _PAPER) for model in PAPER_MODELS]
