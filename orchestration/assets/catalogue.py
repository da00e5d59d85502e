"""How good the top-10 lists are over the whole catalogue, compared with baselines that need no network."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import dagster as dg
import pandas as pd

from ml.evaluation.comparison import comparison_table
from ml.features.feature_map import FeatureMap
from ml.features.genres import genre_sets
from orchestration.assets.common import METRICS, OWNERS, TRANSIENT, links_of, skipped_tables
from orchestration.compute.resource import Compute
from orchestration.config.code_versions import code_version
from orchestration.config.data_sets import DATA_SETS
from orchestration.reporting.evaluation import values_by_metric
from orchestration.reporting.metadata import figures, figures_by_model, markdown_table
from orchestration.reporting.progress import progress_reporter
from orchestration.steps.measurement import measure_lists
from orchestration.steps.top_lists import means_of
from orchestration.tracking.registered_version import version_of
from orchestration.tracking.resource import Tracking

_COMMON: dict[str, Any] = {
    "group_name": "catalogue",
    "owners": OWNERS,
    "code_version": code_version(__name__, "orchestration.steps.measurement"),
}
_LISTS = {"user_id": "int32", "rank": "int16", "movie_id": "int32"}
_BASELINES = {
    "baseline_lists": "Every user's ten best movies without a training row, by each baseline: popularity, movie mean, "
    "matrix factorization, implicit ALS, EASE.",
    "baseline_list_metrics": "Metrics of the baselines' lists over the whole catalogue: how many of the liked test "
    "rows they contain, and how diverse they are.",
}


def catalogue_assets(models: Sequence[str]) -> list[dg.AssetsDefinition]:
    """The lists of the baselines and of each model, with their metrics."""
    return [rank_catalogue_by_baselines, *(lists_assets(model) for model in models)]


@dg.multi_asset(
    name="rank_catalogue_by_baselines",
    partitions_def=DATA_SETS,
    outs={
        name: dg.AssetOut(description=text, kinds={"numpy", "parquet"}, **_COMMON) for name, text in _BASELINES.items()
    },
)
def rank_catalogue_by_baselines(
    movies: pd.DataFrame,
    train_interactions: pd.DataFrame,
    test_interactions: pd.DataFrame,
    feature_map: dict[str, Any],
) -> Iterator[Any]:
    """Rank the whole catalogue by popularity, movie mean, factorizations and EASE."""
    from ml.evaluation.metric_tables import baseline_lists, evaluate_baseline_lists

    encoders = FeatureMap.from_dict(feature_map)
    genres = genre_sets(encoders.known("movie_id", movies)["genres"])
    lists = baseline_lists(train_interactions, len(encoders["user_id"].values), len(genres))
    metrics = evaluate_baseline_lists(train_interactions, test_interactions, lists, genres)
    table = comparison_table([metrics]).rename(columns=lambda name: name.removeprefix("catalogue_"))
    yield dg.MaterializeResult(asset_key="baseline_lists", value=lists)
    yield dg.MaterializeResult(
        asset_key="baseline_list_metrics",
        value=metrics,
        metadata={"metrics": markdown_table(table, index=True), **figures_by_model(table)},
    )


def lists_assets(model: str) -> dg.AssetsDefinition:
    """The assets that rank the whole catalogue with one trained model and measure the lists."""
    lists_name, metrics_name = f"{model}_lists", f"{model}_list_metrics"

    @dg.multi_asset(
        name=f"rank_catalogue_by_{model}",
        partitions_def=DATA_SETS,
        outs={
            lists_name: dg.AssetOut(
                description=(
                    f"Every user's ten best movies without a training row, by {model}. The search scores a shortlist "
                    "and is audited: the lists are those of brute force."
                ),
                kinds={"keras", "parquet"},
                **_COMMON,
            ),
            metrics_name: dg.AssetOut(
                description=(
                    f"Metrics of the lists of {model} over the whole catalogue: how many of the liked test rows they "
                    "contain, and how diverse they are. MLflow has the same values."
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
        compute: Compute,
        tracking: Tracking,
        trained: dict[str, Any],
        train_interactions: pd.DataFrame,
        test_interactions: pd.DataFrame,
    ) -> Iterator[Any]:
        from ml.inference.held_out import held_out_lists
        from ml.inference.scorer import Scorer

        version = version_of(trained)
        if version is None:
            yield from skipped_tables(trained, {lists_name: _LISTS, metrics_name: METRICS})
            return
        scorer = Scorer(tracking.load_bundle(version))
        means = means_of(compute, tracking.dataset, lists_name)
        lists, search = held_out_lists(scorer, train_interactions, progress_reporter(context, model), means)
        genres = genre_sets(scorer.bundle.movies["genres"])
        metrics = measure_lists(tracking, version, train_interactions, test_interactions, lists, genres)
        yield dg.MaterializeResult(asset_key=lists_name, value=lists, metadata={**asdict(search), **compute.facts()})
        shown: dict[str, Any] = {**figures(values_by_metric(metrics)), **links_of(tracking, version)}
        yield dg.MaterializeResult(asset_key=metrics_name, value=metrics, metadata=shown)

    return rank_catalogue
