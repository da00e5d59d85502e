"""The tables that the pipeline exists for: each user's top 10 movies by each model."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg
import pandas as pd
from pydantic import Field

from ml.features.feature_map import FeatureMap
from ml.features.splits import RANDOM
from orchestration.assets.common import DOCUMENTS, OWNERS, TRANSIENT, inputs_of, trained_models
from orchestration.compute.resource import Compute
from orchestration.config.code_versions import code_version
from orchestration.config.data_sets import DATA_SETS
from orchestration.config.monitoring_config import MonitoringConfig
from orchestration.reporting.check_results import (
    blocking_by_model,
    check_spec,
    checks_last,
    on_time,
    on_time_spec,
    require,
    skipped_check,
    warning,
)
from orchestration.reporting.metadata import SETTINGS, markdown_table
from orchestration.resources.raw_data import RawData
from orchestration.resources.storage import Storage
from orchestration.steps.promotion import MOVIE_MEAN, Rows, Verdict, gates_table, judge, verdicts_table
from orchestration.steps.top_lists import (
    Choice,
    SearchConfig,
    choose,
    compare_with_published,
    publish,
    published_table,
)
from orchestration.tracking.resource import Tracking
from orchestration.tracking.retention import prune


class TopTenConfig(SearchConfig):
    """The month to recommend for, and how lists are found."""

    year: int | None = Field(
        default=None,
        description="Year to recommend for; default: the latest month of the data that the version knows.",
    )
    month: int | None = Field(default=None, ge=1, le=12, description="Month 1-12; requires year.")

    @property
    def moments(self) -> list[tuple[int, int]]:
        """The year and month to recommend for; empty for the latest. Raises dagster.Failure."""
        if (self.year is None) != (self.month is None):
            raise dg.Failure("Set both year and month, or neither.", allow_retries=False)
        return [(self.year, self.month)] if self.year is not None and self.month is not None else []


_COMMON: dict[str, Any] = {
    "group_name": "recommendations",
    "owners": OWNERS,
    "retry_policy": TRANSIENT,
    "partitions_def": DATA_SETS,
}
_WARNINGS = {
    "promoted": "The challenger is the new champion. Otherwise the champion's table is published, for today's ratings.",
    "stable": "No more top-10 slots changed since the last publication than monitoring.yaml accepts.",
}
_PARTS = ("scores", "lists", "metrics", "list_metrics")


def recommendation_assets(models: Sequence[str], monitoring: MonitoringConfig, rules: str) -> list[dg.AssetsDefinition]:
    """Promotion, the published tables and the deletion of old versions.

    Args:
        models: names of the reference models.
        monitoring: settings of monitoring.yaml.
        rules: digest of the settings of mlflow.yaml, which has the gates and what to keep.
    """
    return [promotion_asset(models, rules), top_ten_asset(models, monitoring), retention_asset(models, rules)]


def promotion_asset(models: Sequence[str], rules: str) -> dg.AssetsDefinition:
    """The asset that judges the challengers. ``rules`` is part of its code version."""

    @dg.asset(
        **_COMMON,
        code_version=f"{code_version(__name__, 'orchestration.steps.promotion')}-{rules}",
        kinds={"mlflow", "json"},
        io_manager_key=DOCUMENTS,
        ins=inputs_of(models, *_PARTS) | {name: dg.AssetIn(name) for name in ("baseline_scores", "baseline_lists")},
        # Only models whose evaluation passed its checks are judged.
        deps=["model_comparison"],
    )
    def promotion(
        raw_data: RawData,
        tracking: Tracking,
        users: pd.DataFrame,
        movies: pd.DataFrame,
        ratings: pd.DataFrame,
        feature_map: dict[str, Any],
        train_interactions: pd.DataFrame,
        test_interactions: pd.DataFrame,
        **inputs: Any,
    ) -> dg.MaterializeResult[Any]:
        """Whether each challenger passes the gates of mlflow.yaml, with the figures.

        A challenger that is the champion already needs to pass none. top10_recommendations acts on the verdicts. Only
        the random split has a promotion.
        """
        _require_published(raw_data)
        encoders = FeatureMap.from_dict(feature_map)
        rows = Rows(users, movies, ratings, train_interactions, test_interactions, encoders)
        lists = inputs["baseline_lists"]
        movie_mean = {
            "scores": inputs["baseline_scores"][[MOVIE_MEAN]].set_axis(["score"], axis="columns"),
            "lists": lists[lists["model"] == MOVIE_MEAN],
        }
        verdicts = {}
        for model, version in trained_models(models, inputs).items():
            own = {part: inputs[f"{model}_{part}"] for part in _PARTS}
            verdicts[model] = judge(tracking, version, rows, own, movie_mean)
        findings = [finding for verdict in verdicts.values() for finding in verdict.findings]
        return dg.MaterializeResult(
            value={model: verdict.to_dict() for model, verdict in verdicts.items()},
            metadata={
                "verdicts": markdown_table(verdicts_table(verdicts)),
                "gates": markdown_table(gates_table(verdicts)),
                "gates_passed": sum(finding.passed for finding in findings),
                "gates_failed": sum(not finding.passed for finding in findings),
            },
        )

    return promotion


def top_ten_asset(models: Sequence[str], monitoring: MonitoringConfig) -> dg.AssetsDefinition:
    """The asset that publishes the tables."""

    @dg.asset(
        **_COMMON,
        code_version=code_version(__name__, "orchestration.steps.top_lists"),
        kinds={"keras", "mlflow", "parquet"},
        metadata={SETTINGS: TopTenConfig().model_dump()},
        check_specs=[
            *blocking_by_model("top10_recommendations", "top_lists", models),
            *(
                check_spec(f"{check}_{model}", "top10_recommendations", text)
                for check, text in _WARNINGS.items()
                for model in models
            ),
            on_time_spec("top10_recommendations", "The tables are no older than monitoring.yaml accepts."),
        ],
    )
    @checks_last
    def top10_recommendations(
        context: dg.AssetExecutionContext,
        config: TopTenConfig,
        storage: Storage,
        compute: Compute,
        tracking: Tracking,
        ratings: pd.DataFrame,
        promotion: dict[str, Any],
    ) -> Iterator[Any]:
        """Up to ten unseen movies per user by each model's champion; a challenger that passes all gates is promoted.

        One file per model, `top10_<model>.parquet`. The network that ranked it is published with it.
        """
        ranking = config.ranking(ratings, *config.moments)
        changes: dict[str, Any] = {}
        published: dict[str, Any] = {}
        choices = []
        for model in models:
            if model not in promotion:
                yield from _skipped(model)
                continue
            choice = choose(context, compute, tracking, Verdict.from_dict(promotion[model]), ranking)
            choices.append(choice)
            yield from require("top10_recommendations", choice.audit.named(f"top_lists_{model}"))
            yield _promoted(choice)
            stable = compare_with_published(tracking, choice, monitoring.slots_changed)
            yield warning("top10_recommendations", stable)
            if "slots_changed" in stable.facts:
                changes[f"{model}.slots_changed"] = stable.facts["slots_changed"]
        for choice in choices:  # once the lists of all models have passed their audit
            published |= publish(tracking, choice)
        files = [f"top10_{choice.model}.parquet" for choice in choices if choice.lists]
        overview: dict[str, Any] = {
            "published": markdown_table(published_table(choices)),
            SETTINGS: config.model_dump(),
        }
        yield on_time("top10_recommendations")
        yield dg.MaterializeResult(metadata={**overview, **changes, **published, **storage.stored(*files)})

    return top10_recommendations


def _require_published(raw_data: RawData) -> None:
    """Raise dagster.Failure for a split that only evaluates: readers would take its lists for another data set's."""
    if raw_data.split != RANDOM:
        raise dg.Failure(
            f"{raw_data.dataset}: only the {RANDOM} split is published; materialize the partition "
            f"{raw_data.name_of(RANDOM)}, or launch the job of this split, which publishes nothing",
            allow_retries=False,
        )


def _skipped(model: str) -> Iterator[dg.AssetCheckResult]:
    """The checks of a model that cannot be trained on this data set."""
    reason = "its recipe cannot learn from this data set; its asset says why"
    for check in ("top_lists", *_WARNINGS):
        yield skipped_check("top10_recommendations", f"{check}_{model}", reason)


def _promoted(choice: Choice) -> dg.AssetCheckResult:
    """The check ``promoted_<model>``, which warns."""
    return dg.AssetCheckResult(
        asset_key="top10_recommendations",
        check_name=f"promoted_{choice.model}",
        passed=choice.promoted,
        severity=dg.AssetCheckSeverity.WARN,
        description=choice.summary,
    )


def retention_asset(models: Sequence[str], rules: str) -> dg.AssetsDefinition:
    """The asset that deletes old versions. ``rules`` is part of its code version."""

    @dg.asset(
        **(_COMMON | {"group_name": "operations"}),
        code_version=f"{code_version(__name__, 'orchestration.tracking.retention')}-{rules}",
        kinds={"mlflow"},
        deps=["top10_recommendations"],
    )
    def pruned_versions(storage: Storage, tracking: Tracking) -> dg.MaterializeResult[None]:
        """Old versions and runs that were deleted by the retention rules of mlflow.yaml; champions never are."""
        found = {model: prune(tracking, model) for model in models}
        deleted = [
            {"model": model, "versions": ", ".join(own.versions), "runs": len(own.runs)} for model, own in found.items()
        ]
        return dg.MaterializeResult(
            metadata={
                "versions_deleted": sum(len(own.versions) for own in found.values()),
                "runs_deleted": sum(len(own.runs) for own in found.values()),
                "deleted": markdown_table(pd.DataFrame(deleted)),
                **storage.stored(),
            }
        )

    return pruned_versions
