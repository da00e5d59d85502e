"""The tables that the pipeline exists for: the top 10 movies of every user, by each model."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd
from pydantic import Field

from ml.features.feature_map import FeatureMap
from ml.files import digest
from orchestration.assets.common import DOCUMENTS, OWNERS, TRANSIENT, inputs_of
from orchestration.config.code_versions import code_version
from orchestration.config.monitoring_config import MONITORING
from orchestration.config.recipes_in_force import MODELS
from orchestration.config.settings import Settings
from orchestration.reporting.check_results import blocking_by_model, require, warning
from orchestration.reporting.metadata import SETTINGS, markdown_table
from orchestration.resources.storage import Storage
from orchestration.steps.promotion import MOVIE_MEAN, Rows, Verdict, gates_table, judge, verdicts_table
from orchestration.steps.top_lists import SearchConfig, choose, compare_with_published, publish, published_table
from orchestration.tracking.registered_version import RegisteredVersion
from orchestration.tracking.resource import Tracking
from orchestration.tracking.retention import prune


class TopTenConfig(SearchConfig):
    """The moment to recommend for, and how lists are found."""

    year: int | None = Field(
        default=None,
        description="Year of the imagined rating; default: the latest month in the data that the version knows.",
    )
    month: int | None = Field(default=None, ge=1, le=12, description="Month 1-12; goes with year.")

    @property
    def moments(self) -> list[tuple[int, int]]:
        """The year and month to recommend for; none for the latest. Raises dagster.Failure."""
        if (self.year is None) != (self.month is None):
            raise dg.Failure("year and month go together: set both or neither", allow_retries=False)
        return [(self.year, self.month)] if self.year is not None and self.month is not None else []


_COMMON: dict[str, Any] = {
    "group_name": "recommendations",
    "owners": OWNERS,
    "retry_policy": TRANSIENT,
}
_RULES = digest(Settings().tracking_file.read_bytes())  # gates and retention
_PROMOTED = (
    "The challenger has become champion. If it has not, the champion's table is published, for the present ratings."
)
_STABLE = "No more top-10 slots have changed since the last publication than monitoring.yaml accepts."
_PARTS = ("scores", "lists", "metrics", "list_metrics")


@dg.asset(
    **_COMMON,
    code_version=f"{code_version(__name__, 'orchestration.steps.promotion')}-{_RULES}",
    kinds={"mlflow", "json"},
    io_manager_key=DOCUMENTS,
    ins=inputs_of(MODELS, *_PARTS),
    # Only models whose evaluation passed its checks are judged.
    deps=["model_comparison"],
)
def promotion(
    tracking: Tracking,
    interactions: pd.DataFrame,
    feature_map: dict[str, Any],
    train_interactions: pd.DataFrame,
    test_interactions: pd.DataFrame,
    baseline_metrics: pd.DataFrame,
    baseline_list_metrics: pd.DataFrame,
    **inputs: Any,
) -> dg.MaterializeResult[Any]:
    """What the gates of mlflow.yaml say of each challenger, with the figures.

    A version that is champion already has nothing to prove. top10_recommendations acts on the verdicts.
    """
    rows = Rows(interactions, train_interactions, test_interactions, FeatureMap.from_dict(feature_map))
    baselines = pd.concat([baseline_metrics, baseline_list_metrics])
    movie_mean = baselines[baselines["model"] == MOVIE_MEAN].set_index("metric")["value"]
    verdicts = {}
    for model in MODELS:
        own = {part: inputs[f"{model}_{part}"] for part in _PARTS}
        verdicts[model] = judge(tracking, RegisteredVersion(**inputs[f"{model}_version"]), rows, own, movie_mean)
    return dg.MaterializeResult(
        value={model: verdict.to_dict() for model, verdict in verdicts.items()},
        metadata={
            "verdicts": markdown_table(verdicts_table(verdicts)),
            "gates": markdown_table(gates_table(verdicts)),
            "gates_that_hold": sum(finding.passed for verdict in verdicts.values() for finding in verdict.findings),
            "gates_missed": sum(not finding.passed for verdict in verdicts.values() for finding in verdict.findings),
        },
    )


@dg.asset(
    **_COMMON,
    code_version=code_version(__name__, "orchestration.steps.top_lists"),
    kinds={"keras", "mlflow", "parquet"},
    metadata={SETTINGS: TopTenConfig().model_dump()},
    check_specs=[
        *blocking_by_model("top10_recommendations", "top_lists", MODELS),
        *(
            dg.AssetCheckSpec(f"{check}_{model}", asset="top10_recommendations", description=text)
            for check, text in (("promoted", _PROMOTED), ("stable", _STABLE))
            for model in MODELS
        ),
    ],
    freshness_policy=MONITORING.freshness.tables.policy(),
)
def top10_recommendations(
    context: dg.AssetExecutionContext,
    config: TopTenConfig,
    storage: Storage,
    tracking: Tracking,
    ratings: pd.DataFrame,
    promotion: dict[str, Any],
) -> Iterator[Any]:
    """Up to ten unseen movies for every user by each model's champion; a challenger that holds all gates becomes it.

    One file a model, `top10_<model>.parquet`, and the network that made it, changed together.
    """
    ranking = config.ranking(ratings, *config.moments)
    metadata: dict[str, Any] = {}
    choices = []
    for model in MODELS:
        choice = choose(context, tracking, Verdict.from_dict(promotion[model]), ranking)
        choices.append(choice)
        yield from require("top10_recommendations", choice.audit.named(f"top_lists_{model}"))
        yield dg.AssetCheckResult(
            asset_key="top10_recommendations",
            check_name=f"promoted_{model}",
            passed=choice.promoted,
            severity=dg.AssetCheckSeverity.WARN,
            description=choice.summary,
        )
        stable = compare_with_published(tracking, choice, MONITORING.slots_changed)
        yield warning("top10_recommendations", stable)
        if "slots_changed" in stable.facts:
            metadata[f"{model}.slots_changed"] = stable.facts["slots_changed"]
    for choice in choices:
        metadata |= publish(tracking, choice)
    files = [f"top10_{choice.model}.parquet" for choice in choices if choice.lists]
    overview: dict[str, Any] = {"published": markdown_table(published_table(choices)), SETTINGS: config.model_dump()}
    yield dg.MaterializeResult(metadata={**overview, **metadata, **storage.stored(*files)})


@dg.asset(
    **(_COMMON | {"group_name": "operations"}),
    code_version=f"{code_version(__name__, 'orchestration.tracking.retention')}-{_RULES}",
    kinds={"mlflow"},
    deps=["top10_recommendations"],
)
def pruned_versions(storage: Storage, tracking: Tracking) -> dg.MaterializeResult[None]:
    """Old versions and runs, deleted by the rule of mlflow.yaml, which never touches champions."""
    found = {model: prune(tracking, model) for model in MODELS}
    table = pd.DataFrame(
        {"model": model, "versions": ", ".join(own.versions), "runs": len(own.runs)} for model, own in found.items()
    )
    counts: dict[str, Any] = {
        "versions_deleted": sum(len(own.versions) for own in found.values()),
        "runs_deleted": sum(len(own.runs) for own in found.values()),
    }
    return dg.MaterializeResult(metadata={**counts, "deleted": markdown_table(table), **storage.stored()})
