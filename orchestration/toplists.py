"""Rank by a model's challenger or champion, whichever is to be published, and publish it."""

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from ml import checks
from ml.checks import Finding
from orchestration.metadata import table_metadata
from orchestration.progress import progress_reporter
from orchestration.promotion import Verdict
from orchestration.registered_version import ROLLED_BACK, RegisteredVersion
from orchestration.resources.storage import as_parquet
from orchestration.resources.tracking import Tracking

if TYPE_CHECKING:
    from ml.inference.bundle import ModelBundle


@dataclass(frozen=True)
class Ranking:
    """What lists are made for.

    Attributes:
        ratings: preprocessed; their movies are not recommended to their users.
        moment: year and month of the imagined rating.
        length: movies a list.
        method: ``shortlist`` or ``brute_force``.
        seed: of the users that shortlist samples and audits.
    """

    ratings: pd.DataFrame
    moment: tuple[int, int]
    length: int
    method: str
    seed: int


@dataclass(frozen=True)
class Lists:
    """Lists of one version.

    Attributes:
        version: the version.
        bundle: of the version.
        table: the lists, one row a listed movie.
        facts: how they were found.
    """

    version: RegisteredVersion
    bundle: "ModelBundle"
    table: pd.DataFrame
    facts: dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """Which version of a model is to be published.

    Attributes:
        verdict: on the challenger.
        lists: of the version; None where no version may be published.
        audit: of the lists.
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
        """Whether it is the challenger."""
        return self.lists is not None and self.lists.version == self.verdict.challenger

    @property
    def summary(self) -> str:
        """One sentence for a person."""
        challenger = f"{self.model} version {self.verdict.challenger.version}"
        if self.promoted:
            return f"{challenger} is champion"
        stays = f"version {self.lists.version.version} stays champion" if self.lists else "no version is published"
        return f"{challenger} is not promoted, {stays}: {self.verdict.failures}"


def choose(context: dg.AssetExecutionContext, tracking: Tracking, verdict: Verdict, ranking: Ranking) -> Choice:
    """Rank by the challenger where all gates hold, its lists' audit included, else by the champion."""
    champion = tracking.champion(verdict.challenger.model)
    rolled_back = ROLLED_BACK in tracking.tags_of(verdict.challenger)
    facts = {"version": verdict.challenger.version, "rolled_back": rolled_back}
    verdict = verdict.with_findings(Finding("not_rolled_back", not rolled_back, facts))
    if verdict.passed:
        lists, audit = _rank(context, tracking, verdict.challenger, ranking)
        if audit.passed or champion in (None, verdict.challenger):
            return Choice(verdict, lists, audit)
        verdict = verdict.with_findings(audit)
    if champion is None:
        return Choice(verdict, None, Finding("top_lists", True, {"published": "nothing"}))
    return Choice(verdict, *_rank(context, tracking, champion, ranking))


def publish(tracking: Tracking, choice: Choice) -> dict[str, Any]:
    """Publish a choice's lists; gives what the asset shows of them."""
    model, lists = choice.model, choice.lists
    metadata: dict[str, Any] = {f"{model}_promotion": choice.summary}
    if lists is None:
        return metadata
    publication = tracking.publication(model)
    publication.publish(lists.version, as_parquet(lists.table), _saved(lists.bundle))
    facts = {"version": lists.version.version, "distinct_movies": lists.table["movie_id"].nunique(), **lists.facts}
    shown = {
        "path": dg.MetadataValue.path(str(publication.table)),
        "preview": table_metadata(lists.table)["preview"],
    }
    return metadata | {f"{model}_{name}": value for name, value in {**facts, **shown}.items()}


def _rank(
    context: dg.AssetExecutionContext, tracking: Tracking, version: RegisteredVersion, ranking: Ranking
) -> tuple[Lists, Finding]:
    from ml.inference.recommend import Recommender  # noqa: PLC0415 - Keras is slow to import
    from ml.inference.scorer import Scorer  # noqa: PLC0415

    bundle = tracking.load_bundle(version)
    started = time.perf_counter()
    [(top, search)] = Recommender(Scorer(bundle), ranking.ratings).recommend_all(
        [ranking.moment], ranking.length, ranking.method, ranking.seed, progress_reporter(context, version.model)
    )
    facts = {"seconds": time.perf_counter() - started, **asdict(search)}
    audit = checks.top_lists(top, ranking.ratings, bundle.users["user_id"].tolist(), ranking.length)
    return Lists(version, bundle, top.assign(model=version.model, model_version=version.version), facts), audit


def _saved(bundle: "ModelBundle") -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle.zip"
        bundle.save(path)
        return path.read_bytes()
