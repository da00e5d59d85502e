"""How good the models are, beside what needs no network."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import pandas as pd

from ml import checks, schema
from ml.checks import Finding
from ml.errors import DataError
from ml.evaluation.stability import MetricLimits
from ml.small_charts import line_chart
from ml.training.recipes import PAPER
from orchestration.assets.common import OWNERS, TRANSIENT, inputs_of
from orchestration.config.code_versions import code_version
from orchestration.reporting.check_results import blocking, require, warning
from orchestration.reporting.metadata import drawing, figures, figures_by_model, markdown_table, table_metadata
from orchestration.resources.storage import Storage
from orchestration.tracking.registered_version import RegisteredVersion
from orchestration.tracking.resource import Tracking

_VERSIONED: dict[str, Any] = {"owners": OWNERS, "code_version": code_version(__name__)}
_COMMON: dict[str, Any] = {"group_name": "evaluation", **_VERSIONED}
_PAPER: dict[str, Any] = {"group_name": PAPER, **_VERSIONED}
_HEADLINES = ("ndcg_at_10", "auc", "log_loss")  # few, since the place for a table is narrow
_CATALOGUE_HEADLINES = tuple(f"catalogue_{name}_at_10" for name in ("ndcg", "coverage"))
_COMPARED_BASELINES = ("movie_mean", "matrix_factorization")
_NO_DROPS = "No model's metric is worse than in the last evaluation by more than monitoring.yaml accepts."


@dg.asset(**_COMMON, kinds={"numpy", "parquet"})
def baseline_scores(train_interactions: pd.DataFrame, test_interactions: pd.DataFrame) -> pd.DataFrame:
    """Scores of the test rows by the random order, the movie mean, a matrix factorisation and the perfect order.

    What needs no network; a model that is not ahead of them has learned nothing of its users.
    """
    from ml.evaluation.metric_tables import baseline_scores

    return baseline_scores(train_interactions, test_interactions)


@dg.asset(**_COMMON, kinds={"numpy", "parquet"})
def baseline_metrics(test_interactions: pd.DataFrame, baseline_scores: pd.DataFrame) -> dg.MaterializeResult[Any]:
    """Metrics of the baselines on the test interactions: the ground that the models have to be ahead of.

    Each user's own test rows are ranked. Random order is the floor, the perfect order the ceiling.
    """
    from ml.evaluation.metric_tables import comparison_table, evaluate_baselines

    metrics = evaluate_baselines(test_interactions, baseline_scores)
    table = comparison_table([metrics])
    shown: dict[str, Any] = {"metrics": markdown_table(table, index=True), **figures_by_model(table[list(_HEADLINES)])}
    return dg.MaterializeResult(value=metrics, metadata=shown)


def metrics_assets(model: str, common: dict[str, Any]) -> dg.AssetsDefinition:
    """The assets that score the test rows with one trained model and measure the scores."""
    scores_name, metrics_name = f"{model}_scores", f"{model}_metrics"

    @dg.multi_asset(
        name=f"evaluate_{model}",
        outs={
            scores_name: dg.AssetOut(
                description=f"Probabilities of {model} for the test interactions, one a row and in their order.",
                kinds={"keras", "parquet"},
                **common,
            ),
            metrics_name: dg.AssetOut(
                description=(
                    f"Metrics of {model} on the test interactions, beside the baselines. Each user's own test rows are "
                    "ranked. The same values are in MLflow, at the run and at the registered version."
                ),
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
        from ml.evaluation import plots
        from ml.evaluation.calibration import reliability
        from ml.evaluation.metric_tables import comparison_table, evaluate
        from ml.inference.scorer import Scorer

        version = RegisteredVersion(**trained)
        scores = Scorer(tracking.load_bundle(version)).score_encoded(test_interactions)
        found = evaluate(model, test_interactions, scores)
        values = dict(zip(found["metric"], found["value"].astype(float), strict=True))
        bins = reliability(test_interactions[schema.LABEL].to_numpy(), scores)
        plot = plots.reliability_plot(model, bins)
        tracking.log_evaluation(version, values)
        tracking.log_picture([version], plot, "reliability.png")
        yield from require(metrics_name, checks.not_below_random(found, baseline_metrics))
        yield dg.MaterializeResult(asset_key=scores_name, value=pd.DataFrame({"score": scores}))
        filled = bins.dropna().set_index("mean_probability", drop=False)
        curves = filled[["share_positive", "mean_probability"]].set_axis(["share positive", "perfect"], axis=1)
        shown: dict[str, Any] = {
            "beside_baselines": _shortened(comparison_table([found, baseline_metrics])[list(_HEADLINES)]),
            "reliability": drawing("share of positives by probability", line_chart(curves)),
            "mlflow_run": dg.MetadataValue.url(tracking.run_url(version.run_id)),
            "registered_model": dg.MetadataValue.url(tracking.version_url(version)),
        }
        yield dg.MaterializeResult(asset_key=metrics_name, value=found, metadata={**figures(values), **shown})

    return evaluate_model


def comparison_asset(models: Sequence[str], limits: MetricLimits) -> dg.AssetsDefinition:
    """The asset that sets models and baselines side by side; ``limits`` as its check warns of them."""

    @dg.asset(
        **_COMMON,
        kinds={"pandas", "parquet"},
        ins=inputs_of(models, "scores", "metrics", "lists", "list_metrics"),
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

        Written as evaluation.parquet, comparison.parquet and evaluation_by_activity.parquet. mlflow_comparison opens
        the loss curves of the first two models (AutoInt and AutoInt+MLP) over each other in MLflow.
        """
        from ml.evaluation.activity import metrics_by_activity
        from ml.evaluation.intervals import compare_lists, compare_models
        from ml.evaluation.metric_tables import comparison_by_split, comparison_table

        own = [inputs[f"{model}_{part}"] for part in ("metrics", "list_metrics") for model in models]
        evaluation = pd.concat([*own, baseline_metrics, baseline_list_metrics], ignore_index=True)
        scores = {model: inputs[f"{model}_scores"]["score"].to_numpy() for model in models}
        scores |= {name: baseline_scores[name].to_numpy() for name in _COMPARED_BASELINES}
        lists = {model: inputs[f"{model}_lists"] for model in models}
        lists |= {str(name): table for name, table in baseline_lists.groupby("model", sort=False)}
        differences = [compare_models(test_interactions, scores), compare_lists(test_interactions, lists)]
        comparison = pd.concat(differences, ignore_index=True)
        activity = pd.concat(
            [
                metrics_by_activity(name, train_interactions, test_interactions, values)
                for name, values in scores.items()
            ],
            ignore_index=True,
        )
        yield _compare_with_the_last(storage, evaluation, models, limits)
        tables = {"evaluation": evaluation, "comparison": comparison, "evaluation_by_activity": activity}
        paths = {name: storage.write_table(name, table) for name, table in tables.items()}
        versions = [RegisteredVersion(**inputs[f"{model}_version"]) for model in models]
        by_model = comparison_table([evaluation])
        _log_comparison(tracking, versions, by_model)
        yield dg.MaterializeResult(
            metadata={
                **_headlines(by_model),
                "mlflow_comparison": dg.MetadataValue.url(tracking.comparison_url(versions[:2])),
                "all_metrics": markdown_table(by_model, index=True),
                "comparison_by_split": markdown_table(comparison_by_split(storage.evaluations()), index=True),
                "differences": markdown_table(comparison),  # with their 95 % intervals
                "by_activity": markdown_table(activity),
                **table_metadata(evaluation, "model_comparison"),
                **figures_by_model(_looked_at(by_model).loc[list(models)]),
                **{f"{name}_path": dg.MetadataValue.path(str(path)) for name, path in paths.items()},
                **storage.stored(*(path.name for path in paths.values())),
            }
        )

    return model_comparison


def _headlines(table: pd.DataFrame) -> dict[str, Any]:
    """The metrics that are looked at first, as tables that are small enough to be shown in place."""
    parts = {"on_own_test_rows": _HEADLINES, "over_the_catalogue": _CATALOGUE_HEADLINES}
    found = {part: table.reindex(columns=list(names)).dropna(how="all") for part, names in parts.items()}
    return {
        part: _shortened(own.rename(columns=lambda name: name.removeprefix("catalogue_")))
        for part, own in found.items()
        if len(own)  # the paper's protocol has no lists over the catalogue
    }


def _shortened(table: pd.DataFrame) -> dg.MarkdownMetadataValue:
    return markdown_table(table.round(4), index=True)  # the place is narrow


def _log_comparison(tracking: Tracking, versions: Sequence[RegisteredVersion], table: pd.DataFrame) -> None:
    """The picture of all models and baselines, among the artifacts of each version's run."""
    from ml.evaluation.plots import comparison_plot

    plot = comparison_plot(f"models and baselines on {tracking.dataset}", _looked_at(table))
    tracking.log_picture(versions, plot, "comparison.png")


def _looked_at(table: pd.DataFrame) -> pd.DataFrame:
    return table[[name for name in (*_HEADLINES, *_CATALOGUE_HEADLINES) if name in table]]


def _compare_with_the_last(
    storage: Storage, evaluation: pd.DataFrame, models: Sequence[str], limits: MetricLimits
) -> dg.AssetCheckResult:
    """The check ``metric_drops`` of the models; call it before evaluation.parquet is replaced."""
    from ml.evaluation import stability

    try:
        before = storage.find_table("evaluation", ["model", "metric", "value"])
    except DataError as error:  # whoever damaged it should hear of it, and the new table should take its place
        found = Finding("metric_drops", False, {"summary": f"Not compared with the last evaluation: {error}"})
        return warning("model_comparison", found)
    before = evaluation.iloc[:0] if before is None else before
    drops = stability.metric_drops(before, evaluation[evaluation["model"].isin(models)])
    shown = {"changes": markdown_table(drops)}
    return warning("model_comparison", stability.no_metric_drops(drops, limits), shown)


def paper_comparison_asset(models: Sequence[str]) -> dg.AssetsDefinition:
    """The same of the paper's protocol."""

    @dg.asset(**_PAPER, kinds={"pandas", "parquet"}, ins=inputs_of(models, "metrics"))
    def paper_comparison(
        storage: Storage, tracking: Tracking, baseline_metrics: pd.DataFrame, **inputs: Any
    ) -> dg.MaterializeResult[Any]:
        """The models of the paper's protocol and the baselines side by side; written as evaluation.parquet."""
        from ml.evaluation.metric_tables import comparison_table

        evaluation = pd.concat([*(inputs[f"{model}_metrics"] for model in models), baseline_metrics], ignore_index=True)
        path = storage.write_table("evaluation", evaluation)
        versions = [RegisteredVersion(**inputs[f"{model}_version"]) for model in models]
        by_model = comparison_table([evaluation])
        _log_comparison(tracking, versions, by_model)
        return dg.MaterializeResult(
            metadata={
                **_headlines(by_model),
                "mlflow_comparison": dg.MetadataValue.url(tracking.comparison_url(versions)),
                **table_metadata(evaluation, "paper_comparison"),
                **figures_by_model(_looked_at(by_model).loc[list(models)]),
                "evaluation_path": dg.MetadataValue.path(str(path)),
                **storage.stored(path.name),
            }
        )

    return paper_comparison


def evaluation_assets(
    models: Sequence[str], paper_models: Sequence[str], limits: MetricLimits
) -> list[dg.AssetsDefinition]:
    """Scores and metrics of baselines and models, and what compares them.

    Args:
        models: names of the reference models.
        paper_models: names of the models of the paper's protocol.
        limits: how much worse a metric may become before its check warns.
    """
    return [
        baseline_scores,
        baseline_metrics,
        *(metrics_assets(model, _COMMON) for model in models),
        comparison_asset(models, limits),
        *(metrics_assets(model, _PAPER) for model in paper_models),
        paper_comparison_asset(paper_models),
    ]
