"""How good the models' top lists are over the whole catalogue, beside what needs no network."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg
import pandas as pd

from ml.features.feature_map import FeatureMap
from orchestration.assets.common import OWNERS, TRANSIENT
from orchestration.config.code_versions import code_version
from orchestration.reporting.metadata import figures, figures_by_model, markdown_table
from orchestration.reporting.progress import progress_reporter
from orchestration.tracking.registered_version import RegisteredVersion
from orchestration.tracking.resource import Tracking

_COMMON: dict[str, Any] = {"group_name": "catalogue", "owners": OWNERS, "code_version": code_version(__name__)}


@dg.multi_asset(
    name="rank_catalogue_by_baselines",
    outs={
        name: dg.AssetOut(description=text, kinds={"numpy", "parquet"}, **_COMMON)
        for name, text in (
            (
                "baseline_lists",
                "Every user's ten best movies without a training row, by each baseline: popularity, movie mean, matrix "
                "factorisation, implicit ALS, EASE.",
            ),
            (
                "baseline_list_metrics",
                "Metrics of the baselines' lists over the whole catalogue: how many of the liked test rows are in "
                "them, and how diverse they are.",
            ),
        )
    },
)
def rank_catalogue_by_baselines(
    train_interactions: pd.DataFrame, test_interactions: pd.DataFrame, feature_map: dict[str, Any]
) -> Iterator[Any]:
    """Rank the whole catalogue by popularity, movie mean, factorisations and EASE."""
    from ml.evaluation.metric_tables import baseline_lists, comparison_table, evaluate_baseline_lists

    encoders = FeatureMap.from_dict(feature_map)
    users, movies = (len(encoders[name].values) for name in ("user_id", "movie_id"))
    lists = baseline_lists(train_interactions, users, movies)
    found = evaluate_baseline_lists(train_interactions, test_interactions, lists, movies)
    table = comparison_table([found]).rename(columns=lambda name: name.removeprefix("catalogue_"))
    yield dg.MaterializeResult(asset_key="baseline_lists", value=lists)
    yield dg.MaterializeResult(
        asset_key="baseline_list_metrics",
        value=found,
        metadata={"metrics": markdown_table(table, index=True), **figures_by_model(table)},
    )


def ranking_assets(model: str) -> dg.AssetsDefinition:
    """The assets that rank the whole catalogue with one trained model and measure the lists."""
    lists_name, metrics_name = f"{model}_lists", f"{model}_list_metrics"

    @dg.multi_asset(
        name=f"rank_catalogue_by_{model}",
        outs={
            lists_name: dg.AssetOut(
                description=(
                    f"Every user's ten best movies without a training row, by {model}. Searched by an audited "
                    "shortlist: the lists are those of brute force."
                ),
                kinds={"keras", "parquet"},
                **_COMMON,
            ),
            metrics_name: dg.AssetOut(
                description=(
                    f"Metrics of the lists of {model} over the whole catalogue: how many of the liked test rows are in "
                    "them, and how diverse they are. The same values are in MLflow."
                ),
                kinds={"mlflow", "parquet"},
                **_COMMON,
            ),
        },
        ins={"trained": dg.AssetIn(model)},
        retry_policy=TRANSIENT,
    )
    def rank_catalogue(
        context: dg.AssetExecutionContext,
        tracking: Tracking,
        trained: dict[str, Any],
        train_interactions: pd.DataFrame,
        test_interactions: pd.DataFrame,
    ) -> Iterator[Any]:
        from ml.evaluation.metric_tables import evaluate_lists
        from ml.inference.held_out import held_out_lists
        from ml.inference.scorer import Scorer

        version = RegisteredVersion(**trained)
        scorer = Scorer(tracking.load_bundle(version))
        lists, search = held_out_lists(scorer, train_interactions, on_progress=progress_reporter(context, model))
        found = evaluate_lists(model, train_interactions, test_interactions, lists, len(scorer.movie_ids))
        values = dict(zip(found["metric"], found["value"].astype(float), strict=True))
        tracking.log_evaluation(version, values)
        yield dg.MaterializeResult(asset_key=lists_name, value=lists, metadata=asdict(search))
        shown = {
            "mlflow_run": dg.MetadataValue.url(tracking.run_url(version.run_id)),
            "registered_model": dg.MetadataValue.url(tracking.version_url(version)),
        }
        yield dg.MaterializeResult(asset_key=metrics_name, value=found, metadata={**figures(values), **shown})

    return rank_catalogue


def catalogue_assets(models: Sequence[str]) -> list[dg.AssetsDefinition]:
    """The baselines' lists and those of each model, with their metrics."""
    return [rank_catalogue_by_baselines, *(ranking_assets(model) for model in models)]
