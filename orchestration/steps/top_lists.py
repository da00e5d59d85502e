"""Make top lists with a model's challenger or champion, whichever is to be published, and publish it."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd
from pydantic import Field
from upath import UPath

from ml import checks
from ml.checks import Finding
from ml.errors import DataError, NotFoundError
from ml.evaluation import stability
from ml.inference.engine.shortlist import Method
from orchestration.compute.resource import Compute
from orchestration.config.code_versions import code_version
from orchestration.config.launch_config import LaunchConfig
from orchestration.config.settings import settings
from orchestration.reporting.metadata import preview
from orchestration.reporting.progress import StepContext, progress_reporter
from orchestration.resources.storage import as_parquet
from orchestration.steps.promotion import Verdict
from orchestration.tracking.registered_version import ROLLED_BACK, RegisteredVersion
from orchestration.tracking.resource import Tracking

if TYPE_CHECKING:
    from ml.inference.shards import Means

LIST_LENGTH = 10


class SearchConfig(LaunchConfig):
    """How lists are searched."""

    method: Method = Field(
        default="shortlist",
        description="shortlist scores a small, audited share of the pairs; brute_force scores all of them.",
    )
    seed: int = Field(default=42, ge=0, description="Of the users that shortlist samples and audits.")

    def ranking(self, ratings: pd.DataFrame, *moments: tuple[int, int]) -> "Ranking":
        """Settings for lists at these moments, or at the latest one."""
        return Ranking(ratings, moments, LIST_LENGTH, self.method, self.seed)


@dataclass(frozen=True)
class Ranking:
    """Settings for top lists.

    Attributes:
        ratings: preprocessed. A rated movie is not recommended to its user.
        moments: years and months of the imagined ratings; none: the latest month of the ratings that the version
            knows, since an older champion may not know the present month.
        length: movies per list; fewer where a user has fewer unseen ones.
        method: ``shortlist`` or ``brute_force``.
        seed: of the users that shortlist samples and audits.
    """

    ratings: pd.DataFrame
    moments: Sequence[tuple[int, int]]
    length: int
    method: Method
    seed: int


@dataclass(frozen=True)
class Lists:
    """The lists of one version at one moment.

    Attributes:
        version: the version.
        moment: year and month.
        table: the lists, one row per listed movie.
        seconds: duration of the search at all moments.
        facts: how they were found.
    """

    version: RegisteredVersion
    moment: tuple[int, int]
    table: pd.DataFrame
    seconds: float
    facts: dict[str, Any]

    @property
    def overview(self) -> dict[str, Any]:
        """The most important figures."""
        year, month = self.moment
        return {
            "version": self.version.version,
            "month": f"{year}-{month:02d}",
            "distinct_movies": int(self.table["movie_id"].nunique()),
            "share_of_pairs_scored": float(f"{self.facts['pairs_scored'] / self.facts['pairs_total']:.3g}"),
        }

    def described(self, path: UPath, **more: Any) -> dict[str, Any]:
        """Metadata of an asset, as ``<model>.<name>``.

        Args:
            path: of the file with the lists.
            more: further facts.
        """
        facts = {
            **self.overview,
            **more,
            **self.facts,
            "path": dg.MetadataValue.path(str(path)),
            "preview": preview(self.table),
        }
        return {f"{self.version.model}.{name}": value for name, value in facts.items()}


@dataclass(frozen=True)
class Choice:
    """Which version of a model is to be published.

    Attributes:
        verdict: on the challenger.
        lists: of the version; None where no version may be published.
        audit: check of the lists.
    """

    verdict: Verdict
    lists: Lists | None
    audit: Finding

    @property
    def model(self) -> str:
        """The model's name."""
        return self.verdict.challenger.model

    @property
    def promoted(self) -> bool:
        """Whether the challenger is to be published."""
        return self.lists is not None and self.lists.version == self.verdict.challenger

    @property
    def summary(self) -> str:
        """Describe the choice in one sentence."""
        challenger = f"{self.model} version {self.verdict.challenger.version}"
        if self.promoted:
            return f"{challenger} is champion"
        stays = f"version {self.lists.version.version} stays champion" if self.lists else "no version is published"
        return f"{challenger} is not promoted, {stays}: {self.verdict.failures}"


def choose(
    context: dg.AssetExecutionContext, compute: Compute, tracking: Tracking, verdict: Verdict, ranking: Ranking
) -> Choice:
    """Make lists with the challenger where it passes all gates, including the audit of its lists, else the champion."""
    champion = tracking.champion(verdict.challenger.model)
    rolled_back = ROLLED_BACK in tracking.tags_of(verdict.challenger)
    facts = {"version": verdict.challenger.version, "rolled_back": rolled_back}
    verdict = verdict.with_findings(Finding("not_rolled_back", not rolled_back, facts))
    if verdict.passed:
        [(lists, audit)] = rank(context, compute, tracking, verdict.challenger, ranking)
        if audit.passed or champion in (None, verdict.challenger):
            return Choice(verdict, lists, audit)
        verdict = verdict.with_findings(audit)
    if champion is None:
        return Choice(verdict, None, Finding("top_lists", True, {"published": "nothing"}))
    [(lists, audit)] = rank(context, compute, tracking, champion, ranking)
    return Choice(verdict, lists, audit)


def compare_with_published(tracking: Tracking, choice: Choice, limit: float) -> Finding:
    """Check whether a choice's lists are close to the champion's table: ``stable_<model>``. Call it before ``publish``.

    Args:
        tracking: knows the champion.
        choice: what is to be published.
        limit: accepted share of the slots that change.
    """
    name = f"stable_{choice.model}"
    if choice.lists is None:
        return Finding(name, True, {"summary": f"No version of {choice.model} is published."})
    try:
        before = tracking.publication(choice.model).published_lists(["user_id", "movie_id"])
        found = stability.stable_lists(before, choice.lists.table, limit)
    except DataError as error:  # the check reports the damage, and the new table replaces the damaged one
        found = Finding(name, False, {"summary": f"Not compared with the lists before: {error}"})
    return Finding(name, found.passed, {**found.facts, "summary": f"{choice.model}: {found.facts['summary']}"})


def publish(tracking: Tracking, choice: Choice) -> dict[str, Any]:
    """Publish a choice's lists; gives the asset's metadata."""
    model, lists = choice.model, choice.lists
    metadata: dict[str, Any] = {f"{model}.promotion": choice.summary}
    if lists is None:
        return metadata
    publication = tracking.publication(model)
    metrics = tracking.metrics_of(lists.version)
    publication.publish(lists.version, as_parquet(lists.table), tracking.bundle_file(lists.version), metrics)
    return metadata | lists.described(publication.table, seconds=round(lists.seconds, 2))


def means_of(compute: Compute, dataset: str, name: str) -> "Means":
    """How lists are searched: where, and where the lists of an interrupted search are kept.

    Args:
        compute: where.
        dataset: data set with its split.
        name: of the lists.
    """
    from ml.inference.shards import Means

    return Means(unfinished_lists() / dataset / name, compute.each, code_version("ml.inference.recommend"))


def unfinished_lists() -> Path:
    """Directory of what interrupted searches have found, by data set and lists."""
    return settings().local_home / "lists"


def published_table(choices: Sequence[Choice]) -> pd.DataFrame:
    """Show the published lists to people: one row per model, with version, month and number of distinct movies."""
    rows = [{"model": choice.model, **(choice.lists.overview if choice.lists else {})} for choice in choices]
    table = pd.DataFrame(rows).rename(columns={"distinct_movies": "movies"})
    if "month" in table:
        table["month"] = table["month"].str.replace("-", "\N{NON-BREAKING HYPHEN}")  # the column is narrow
    return table.reindex(columns=["model", "version", "month", "movies"])


def rank(
    context: StepContext,
    compute: Compute,
    tracking: Tracking,
    version: RegisteredVersion,
    ranking: Ranking,
) -> list[tuple[Lists, Finding]]:
    """Make a version's lists at each moment, with their audit.

    Raises:
        dagster.Failure: the version does not know a moment. The step is not retried.
    """
    from ml.inference.earlier_model import latest_known_month
    from ml.inference.recommend import Recommender
    from ml.inference.scorer import Scorer

    bundle = tracking.load_bundle(version)
    started = time.perf_counter()
    moments = ranking.moments or [latest_known_month(bundle.feature_map, ranking.ratings)]
    report = progress_reporter(context, version.model, len(moments))
    try:
        found = Recommender(Scorer(bundle), ranking.ratings).recommend_all(
            moments,
            ranking.length,
            ranking.method,
            ranking.seed,
            report,
            means_of(compute, tracking.dataset, version.model),
        )
    except NotFoundError as error:
        raise dg.Failure(f"{version.model} version {version.version}: {error}", allow_retries=False) from error
    seconds = time.perf_counter() - started
    users, movies = bundle.users["user_id"].tolist(), bundle.movies["movie_id"].tolist()
    ranked = []
    for moment, (top, search) in zip(moments, found, strict=True):
        table = top.assign(model=version.model, model_version=version.version)
        audit = checks.top_lists(top, ranking.ratings, users, movies, ranking.length)
        ranked.append((Lists(version, moment, table, seconds, {**asdict(search), **compute.facts()}), audit))
    return ranked
