"""How good the models are on the test rows, compared with baselines that need no network."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
import pandas as pd

from ml import checks
from ml.evaluation.comparison import comparison_by_split, comparison_table
from ml.evaluation.stability import MetricLimits
from ml.features.moments import with_moments
from ml.training.recipes import PAPER, Recipe
from orchestration.assets.common import (
    ENCODED,
    METRICS,
    OWNERS,
    TRANSIENT,
    inputs_of,
    links_of,
    skipped_tables,
    trained_models,
)
from orchestration.compute.resource import Compute
from orchestration.config.code_versions import code_version
from orchestration.config.data_sets import DATA_SETS
from orchestration.reporting.check_results import blocking, check_spec, checks_last, require, skipped_check
from orchestration.reporting.evaluation import (
    HEADLINES,
    baselines_metadata,
    comparison_metadata,
    headlines_metadata,
    reliability_drawing,
    short_table,
    values_by_metric,
)
from orchestration.reporting.metadata import figures, table_metadata
from orchestration.resources.storage import Storage
from orchestration.steps.measurement import compare, compare_with_last, log_comparison, measure_scores
from orchestration.tracking.registered_version import SKIPPED, version_of
from orchestration.tracking.resource import Tracking

_VERSIONED: dict[str, Any] = {
    "owners": OWNERS,
    "code_version": code_version(__name__, "orchestration.steps.measurement"),
}
_COMMON: dict[str, Any] = {"group_name": "evaluation", **_VERSIONED}
_PAPER: dict[str, Any] = {"group_name": PAPER, **_VERSIONED}
_COMPARED_BASELINES = ("movie_mean", "matrix_factorization")
_NO_DROPS = "No model's metric is worse than in the last evaluation by more than monitoring.yaml accepts."


def evaluation_assets(
    recipes: Mapping[str, Recipe], models: Sequence[str], paper_models: Sequence[str], limits: MetricLimits
) -> list[dg.AssetsDefinition]:
    """Scores and metrics of the baselines and of each model, and their comparison.

    Args:
        recipes: of all models.
        models: names of the reference models.
        paper_models: names of the models of the paper's protocol.
        limits: drops of a metric that the check ``metric_drops`` accepts.
    """
    return [
        baseline_scores,
        baseline_metrics,
        *(metrics_assets(model, recipes[model], _COMMON) for model in models),
        comparison_asset(models, limits),
        *(metrics_assets(model, recipes[model], _PAPER) for model in paper_models),
        paper_comparison_asset(paper_models),
    ]


@dg.asset(**_COMMON, partitions_def=DATA_SETS, kinds={"numpy", "parquet"})
def baseline_scores(train_interactions: pd.DataFrame, test_interactions: pd.DataFrame) -> pd.DataFrame:
    """Scores of the test rows by the baselines: random order, movie mean, matrix factorization and perfect order.

    They need no network. A model that is not better than them has learned nothing about its users.
    """
    from ml.evaluation.metric_tables import baseline_scores

    return baseline_scores(train_interactions, test_interactions)


@dg.asset(**_COMMON, partitions_def=DATA_SETS, kinds={"numpy", "parquet"})
def baseline_metrics(test_interactions: pd.DataFrame, baseline_scores: pd.DataFrame) -> dg.MaterializeResult[Any]:
    """Metrics of the baselines on the test interactions, which the models have to beat.

    Each user's own test rows are ranked. Random order is the floor, the perfect order the ceiling.
    """
    from ml.evaluation.metric_tables import evaluate_baselines

    metrics = evaluate_baselines(test_interactions, baseline_scores)
    return dg.MaterializeResult(value=metrics, metadata=baselines_metadata(comparison_table([metrics])))


def metrics_assets(model: str, recipe: Recipe, common: Mapping[str, Any]) -> dg.AssetsDefinition:
    """The assets that score the test rows with one trained model and measure the scores."""
    scores_name, metrics_name = f"{model}_scores", f"{model}_metrics"

    @dg.multi_asset(
        name=f"evaluate_{model}",
        partitions_def=DATA_SETS,
        outs={
            scores_name: dg.AssetOut(
                description=f"Scores of the test interactions by {model}, one per row, in the order of the rows.",
                kinds={"keras", "parquet"},
                **common,
            ),
            metrics_name: dg.AssetOut(
                description=(
                    f"Metrics of {model} on the test interactions, compared with the baselines. Each user's own test "
                    "rows are ranked. MLflow has the same values, at the run and at the registered version."
                ),
                kinds={"keras", "mlflow", "parquet"},
                **common,
            ),
        },
        ins={"trained": dg.AssetIn(model)} | ({ENCODED: dg.AssetIn()} if recipe.moments else {}),
        retry_policy=TRANSIENT,
        check_specs=blocking(metrics_name, "not_below_random"),
    )
    @checks_last
    def evaluate_model(
        compute: Compute,
        tracking: Tracking,
        trained: dict[str, Any],
        test_interactions: pd.DataFrame,
        baseline_metrics: pd.DataFrame,
        **times: Any,
    ) -> Iterator[Any]:
        from ml.inference.scored import score_rows

        version = version_of(trained)
        if version is None:
            yield skipped_check(metrics_name, "not_below_random", trained[SKIPPED])
            yield from skipped_tables(trained, {scores_name: {"score": "float32"}, metrics_name: METRICS})
            return
        rows = with_moments(test_interactions, times[ENCODED], recipe.moments) if recipe.moments else test_interactions
        each = compute.each_of(len(rows))
        scores = score_rows(tracking.load_bundle(version), rows, each)
        metrics, bins = measure_scores(tracking, version, test_interactions, scores)
        users = test_interactions["user_id"].nunique()
        yield from require(metrics_name, checks.not_below_random(metrics, baseline_metrics, users))
        where = compute.facts(each is not None)
        yield dg.MaterializeResult(asset_key=scores_name, value=pd.DataFrame({"score": scores}), metadata=where)
        yield dg.MaterializeResult(
            asset_key=metrics_name,
            value=metrics,
            metadata={
                "compared_with_baselines": short_table(comparison_table([metrics, baseline_metrics])[HEADLINES]),
                "reliability": reliability_drawing(bins),
                **links_of(tracking, version),
                **figures(values_by_metric(metrics)),
            },
        )

    return evaluate_model


def comparison_asset(models: Sequence[str], limits: MetricLimits) -> dg.AssetsDefinition:
    """The asset that compares the reference models and the baselines."""

    @dg.asset(
        **_COMMON,
        partitions_def=DATA_SETS,
        kinds={"pandas", "parquet"},
        ins=inputs_of(models, "scores", "metrics", "lists", "list_metrics"),
        check_specs=[check_spec("metric_drops", "model_comparison", _NO_DROPS)],
    )
    @checks_last
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
        """Models and baselines compared: all metrics, differences with intervals, and metrics by user activity.

        Writes evaluation.parquet, comparison.parquet and evaluation_by_activity.parquet. The link mlflow_comparison
        opens the loss curves of the first two models (AutoInt and AutoInt+MLP) in one chart of MLflow.
        """
        trained = trained_models(models, inputs)
        own = [inputs[f"{model}_{part}"] for part in ("metrics", "list_metrics") for model in trained]
        evaluation = pd.concat([*own, baseline_metrics, baseline_list_metrics], ignore_index=True)
        scores = {model: inputs[f"{model}_scores"]["score"].to_numpy() for model in trained}
        scores |= {name: baseline_scores[name].to_numpy() for name in _COMPARED_BASELINES}
        lists = {model: inputs[f"{model}_lists"] for model in trained}
        lists |= {str(name): table for name, table in baseline_lists.groupby("model", sort=False)}
        tables = {"evaluation": evaluation, **compare(train_interactions, test_interactions, scores, lists)}
        yield compare_with_last(storage, evaluation, list(trained), limits)
        paths = {name: storage.write_table(name, table) for name, table in tables.items()}
        versions = list(trained.values())
        by_model = comparison_table([evaluation])
        log_comparison(tracking, versions, by_model)
        yield dg.MaterializeResult(
            metadata={
                **headlines_metadata(by_model, list(trained)),
                "mlflow_comparison": dg.MetadataValue.url(tracking.comparison_url(versions[:2])),
                **comparison_metadata(by_model, comparison_by_split(storage.evaluations()), tables),
                **{f"{name}_path": dg.MetadataValue.path(str(path)) for name, path in paths.items()},
                **storage.stored(*(path.name for path in paths.values())),
            }
        )

    return model_comparison


def paper_comparison_asset(models: Sequence[str]) -> dg.AssetsDefinition:
    """The asset that compares the models of the paper's protocol and the baselines."""

    @dg.asset(**_PAPER, partitions_def=DATA_SETS, kinds={"pandas", "parquet"}, ins=inputs_of(models, "metrics"))
    def paper_comparison(
        storage: Storage, tracking: Tracking, baseline_metrics: pd.DataFrame, **inputs: Any
    ) -> dg.MaterializeResult[Any]:
        """The models of the paper's protocol compared with the baselines. Writes evaluation.parquet."""
        trained = trained_models(models, inputs)
        own = [inputs[f"{model}_metrics"] for model in trained]
        evaluation = pd.concat([*own, baseline_metrics], ignore_index=True)
        path = storage.write_table("evaluation", evaluation)
        versions = list(trained.values())
        by_model = comparison_table([evaluation])
        log_comparison(tracking, versions, by_model)
        return dg.MaterializeResult(
            metadata={
                **headlines_metadata(by_model, list(trained)),
                "mlflow_comparison": dg.MetadataValue.url(tracking.comparison_url(versions)),
                **table_metadata(evaluation, len(evaluation), "paper_comparison"),
                "evaluation_path": dg.MetadataValue.path(str(path)),
                **storage.stored(path.name),
            }
        )

    return paper_comparison
