"""The tables that the pipeline exists for: the top 10 movies of every user, by each model."""

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import dagster as dg
import pandas as pd
from pydantic import Field

from ml import checks
from ml.features.tables import latest_month
from orchestration.assets.common import MODELS, OWNERS, TRANSIENT
from orchestration.assets.progress import progress_reporter
from orchestration.checks import blocking, require
from orchestration.code_versions import code_version
from orchestration.freshness import SETTINGS
from orchestration.metadata import table_metadata
from orchestration.registered_version import RegisteredVersion
from orchestration.resources.storage import Storage
from orchestration.resources.tracking import Tracking

LIST_LENGTH = 10


class TopTenConfig(dg.Config):
    """The moment to recommend for."""

    year: int | None = Field(
        default=None, description="Year of the imagined rating; default: the latest month in the data."
    )
    month: int | None = Field(default=None, ge=1, le=12, description="Month 1-12; goes with year.")
    method: str = Field(
        default="shortlist",
        pattern="^(shortlist|brute_force)$",
        description="shortlist scores a small, audited share of the pairs; brute_force scores all of them.",
    )
    seed: int = Field(default=42, ge=0, description="Of the users that shortlist samples and audits.")

    def moment(self, ratings: pd.DataFrame) -> tuple[int, int]:
        """The year and month to recommend for."""
        if self.year is None and self.month is None:
            return latest_month(ratings)
        if self.year is None or self.month is None:
            raise dg.Failure("year and month go together: set both or neither", allow_retries=False)
        return self.year, self.month


@dg.asset(
    group_name="recommendations",
    kinds={"keras", "mlflow", "parquet"},
    owners=OWNERS,
    ins={model: dg.AssetIn(model) for model in MODELS},
    # Only models whose evaluation passed its checks are published.
    deps=["model_comparison"],
    retry_policy=TRANSIENT,
    code_version=code_version(__name__),
    metadata={SETTINGS: TopTenConfig().model_dump()},
    check_specs=blocking("top10_recommendations", *(f"top_lists_{model}" for model in MODELS)),
)
def top10_recommendations(
    context: dg.AssetExecutionContext,
    config: TopTenConfig,
    storage: Storage,
    tracking: Tracking,
    ratings: pd.DataFrame,
    **trained: dict[str, Any],
) -> Iterator[Any]:
    """Ten unseen movies for every user, one table a model, best first."""
    from ml.inference.recommend import Recommender  # noqa: PLC0415 - Keras is slow to import
    from ml.inference.scorer import Scorer  # noqa: PLC0415

    year, month = config.moment(ratings)
    tables: dict[str, Any] = {}
    metadata: dict[str, Any] = {"month": f"{year}-{month:02d}", SETTINGS: config.model_dump()}
    for model, document in trained.items():
        version = RegisteredVersion(**document)
        bundle = tracking.load_bundle(version)
        started = time.perf_counter()
        [(top, search)] = Recommender(Scorer(bundle), ratings).recommend_all(
            [(year, month)], LIST_LENGTH, config.method, config.seed, progress_reporter(context, model)
        )
        seconds = time.perf_counter() - started
        found = checks.top_lists(top, ratings, bundle.users["user_id"].tolist(), LIST_LENGTH)
        yield from require("top10_recommendations", found.named(f"top_lists_{model}"))
        tables[model] = version, bundle, top.assign(model=model, model_version=version.version)
        facts = {"version": version.version, "distinct_movies": top["movie_id"].nunique(), "seconds": seconds}
        metadata |= {f"{model}_{name}": value for name, value in {**facts, **asdict(search)}.items()}

    for model, (version, bundle, table) in tables.items():
        path = storage.publish(model, table, bundle)
        tracking.mark_published(version)
        shown = {"path": dg.MetadataValue.path(str(path)), "preview": table_metadata(table)["preview"]}
        metadata |= {f"{model}_{name}": value for name, value in shown.items()}
    yield dg.MaterializeResult(metadata={**metadata, **storage.stored(*(f"top10_{model}.parquet" for model in tables))})
