"""Judge whether a challenger passes the gates of mlflow.yaml and may become champion."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from ml.checks import Finding
from ml.evaluation.catalogue import CATALOGUE_USER_METRICS
from ml.evaluation.gates import Gates, calibrated, not_below_champion, not_below_movie_mean
from ml.features.feature_map import FeatureMap
from ml.features.moments import complete_rows
from ml.features.tables import join_interactions
from orchestration.reporting.metadata import plain
from orchestration.tracking.registered_version import RegisteredVersion
from orchestration.tracking.resource import Tracking

MOVIE_MEAN = "movie_mean"


@dataclass(frozen=True)
class Rows:
    """The rows on which challengers and champions are compared.

    Attributes:
        users: preprocessed users.
        movies: preprocessed movies.
        ratings: preprocessed ratings; ``row`` of the next two tables is the position in them.
        train: encoded training rows.
        test: encoded test rows.
        encoders: the present feature map.
    """

    users: pd.DataFrame
    movies: pd.DataFrame
    ratings: pd.DataFrame
    train: pd.DataFrame
    test: pd.DataFrame
    encoders: FeatureMap

    @cached_property
    def interactions(self) -> pd.DataFrame:
        """The ratings with the features of their users and movies, joined when a champion is first compared."""
        return join_interactions(self.users, self.movies, self.ratings)


@dataclass(frozen=True)
class Verdict:
    """Which gates a challenger passes.

    Attributes:
        challenger: the version.
        findings: one per gate.
    """

    challenger: RegisteredVersion
    findings: Sequence[Finding]

    def to_dict(self) -> dict[str, Any]:
        """Convert to a JSON-ready document."""
        findings = [{**asdict(finding), "facts": plain(finding.facts)} for finding in self.findings]
        return {"challenger": self.challenger.to_dict(), "findings": findings}

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> "Verdict":
        """Read what ``to_dict`` made."""
        return cls(RegisteredVersion(**document["challenger"]), [Finding(**found) for found in document["findings"]])

    def with_findings(self, *more: Finding) -> "Verdict":
        """Add further gates."""
        return Verdict(self.challenger, [*self.findings, *more])

    @property
    def passed(self) -> bool:
        """Whether it passes every gate."""
        return all(finding.passed for finding in self.findings)

    @property
    def failures(self) -> str:
        """The failed gates, with their figures."""
        failed = [finding for finding in self.findings if not finding.passed]
        return "; ".join(f"{finding.name} ({_figures(finding.facts)})" for finding in failed)


def judge(
    tracking: Tracking,
    challenger: RegisteredVersion,
    rows: Rows,
    own: Mapping[str, pd.DataFrame],
    movie_mean: Mapping[str, pd.DataFrame],
) -> Verdict:
    """Judge a challenger. A version that is the champion already has no gates to pass.

    Args:
        tracking: of the data set.
        challenger: the version.
        rows: on which it was trained and measured.
        own: its ``scores``, ``lists``, ``metrics`` and ``list_metrics``.
        movie_mean: ``scores`` and ``lists`` of that baseline.
    """
    champion = tracking.champion(challenger.model)
    if champion == challenger:
        return Verdict(challenger, [])
    gates = tracking.config.gates(challenger.model)
    values = pd.concat([own["metrics"], own["list_metrics"]]).set_index("metric")["value"]
    with_champion = _compare_with_champion(tracking, gates, champion, rows, own) if champion else None
    findings = (
        not_below_champion(gates, with_champion),
        not_below_movie_mean(gates, _compare(gates, rows.test, own, movie_mean)),
        calibrated(gates, values),
    )
    return Verdict(challenger, findings)


def _compare_with_champion(
    tracking: Tracking, gates: Gates, champion: RegisteredVersion, rows: Rows, own: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """Compare challenger (a) and champion (b) on the test rows that the champion can score."""
    from ml.inference.earlier_model import held_out_lists_of, score_known
    from ml.inference.scorer import Scorer

    scorer = Scorer(tracking.load_bundle(champion))
    interactions = complete_rows(rows.interactions, scorer.bundle.feature_map)
    if gates.metric in CATALOGUE_USER_METRICS:
        lists = held_out_lists_of(scorer, interactions.iloc[rows.train["row"]], rows.encoders)
        return _compare(gates, rows.test, own, {"lists": lists})
    known, scores = score_known(scorer, interactions.iloc[rows.test["row"]])
    return _compare(
        gates, rows.test[known], {"scores": own["scores"][known]}, {"scores": pd.DataFrame({"score": scores})}
    )


def _compare(
    gates: Gates, test: pd.DataFrame, own: Mapping[str, pd.DataFrame], other: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """Compare the ``lists`` or the ``scores`` of two models, whichever the gates' metric is computed from."""
    from ml.evaluation.intervals import compare_lists, compare_models

    if gates.metric in CATALOGUE_USER_METRICS:
        return compare_lists(test, {"own": own["lists"], "other": other["lists"]})
    own_scores, other_scores = (each["scores"]["score"].to_numpy() for each in (own, other))
    return compare_models(test, {"own": own_scores, "other": other_scores})


def gates_table(verdicts: Mapping[str, Verdict]) -> pd.DataFrame:
    """Show the gates to people: one row per model and gate."""
    rows = [
        (model, verdict.challenger.version, finding.name, finding.passed, _figures(finding.facts))
        for model, verdict in verdicts.items()
        for finding in verdict.findings
    ]
    return pd.DataFrame(rows, columns=["model", "challenger", "gate", "passed", "figures"])


def verdicts_table(verdicts: Mapping[str, Verdict]) -> pd.DataFrame:
    """Show the verdicts to people: one row per model, with the gates that its challenger fails."""
    rows = []
    for model, verdict in verdicts.items():
        failed = ", ".join(finding.name for finding in verdict.findings if not finding.passed)
        text = f"fails {failed}" if failed else "passes all gates" if verdict.findings else "is champion already"
        rows.append((model, verdict.challenger.version, text))
    return pd.DataFrame(rows, columns=["model", "challenger", "verdict"])


def _figures(facts: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.5g}" if isinstance(value, float) else f"{name} {value}" for name, value in facts.items()
    )
