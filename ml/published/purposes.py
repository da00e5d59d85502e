"""What each published model is for, and which one is the default.

Both follow from the metrics of the published versions, not from names: a new recipe is placed among the others by its
metrics. The best model for "what should this user watch next?" has the highest NDCG@10 over the whole catalogue; the
best one for "would this user like this movie?" has the highest AUC.
"""

import math
from collections.abc import Mapping
from enum import StrEnum

from upath import UPath

from ml.published.champions import published_versions

_NEXT, _LIKES = "catalogue_ndcg_at_10", "auc"


class Purpose(StrEnum):
    """What a model is best for among the published ones."""

    NEXT = "next"
    LIKES = "likes"
    BOTH = "both"
    COMPARISON = "comparison"
    UNMEASURED = "unmeasured"


SENTENCES = {
    Purpose.NEXT: "The best published model for predicting what a user will watch next, over the whole catalog.",
    Purpose.LIKES: "The best published model for predicting whether a user would like a given movie.",
    Purpose.BOTH: "The best published model both for predicting what a user will watch next, over the whole catalog, "
    "and for predicting whether a user would like a given movie.",
    Purpose.COMPARISON: "For comparison: other published models are better at predicting what a user will watch next "
    "and whether a user would like a given movie.",
    Purpose.UNMEASURED: "Purpose unknown: this version was published without metrics.",
}


def purposes_of(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, Purpose]:
    """Derive what each published model is for.

    Args:
        metrics: metrics of the champions, by model and metric name; any may be missing.

    Returns:
        Purposes by model, the default model first: in descending order of NDCG@10 over the whole catalogue; models
        without it come last, equal ones in the order of their names.
    """
    names = sorted(metrics)
    figures = {metric: {name: metrics[name].get(metric, math.nan) for name in names} for metric in (_NEXT, _LIKES)}
    best = {
        metric: max((name for name in names if not math.isnan(own[name])), key=own.__getitem__, default=None)
        for metric, own in figures.items()
    }
    ranked = sorted(names, key=lambda name: (math.isnan(figures[_NEXT][name]), -figures[_NEXT][name], name))
    measured = {name for name in names if not all(math.isnan(own[name]) for own in figures.values())}
    return {name: _purpose(name == best[_NEXT], name == best[_LIKES], name in measured) for name in ranked}


def published_purposes(home: UPath, dataset: str) -> dict[str, Purpose]:
    """Read what each published model of a data set is for. Raises NotFoundError where nothing is, and DataError."""
    return purposes_of({name: champion.metrics() for name, champion in published_versions(home, dataset).items()})


def default_model(home: UPath, dataset: str) -> str:
    """The published model that answers a request without a model. Raises as ``published_purposes`` does."""
    return next(iter(published_purposes(home, dataset)))


def _purpose(is_best_for_next: bool, is_best_for_likes: bool, is_measured: bool) -> Purpose:
    if is_best_for_next and is_best_for_likes:
        return Purpose.BOTH
    if is_best_for_next:
        return Purpose.NEXT
    if is_best_for_likes:
        return Purpose.LIKES
    return Purpose.COMPARISON if is_measured else Purpose.UNMEASURED
