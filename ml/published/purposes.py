"""What each published model is for, and which one answers when none is named.

Both are read off what was measured of the published versions, not off names, so that a recipe of one's own takes its
place among the others.
"What should this user watch next?" is answered best by the model whose lists over the whole catalogue have the highest
NDCG@10; "would this user like this movie?" by the one with the highest AUC.
"""

import math
from collections.abc import Mapping
from enum import StrEnum

from upath import UPath

from ml.errors import NotFoundError
from ml.published.locations import published_models
from ml.published.records import published_metrics

_NEXT, _LIKES = "catalogue_ndcg_at_10", "auc"


class Purpose(StrEnum):
    """What a model is best for, among those that are published."""

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
    """What each published model is for.

    Args:
        metrics: of the published versions, by model and name; some may lack some.

    Returns:
        By model, the one that answers when none is named first: by falling NDCG@10 over the whole catalogue, those
        without it last, equal ones by name.
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
    """``purposes_of`` what is published of a data set. Raises NotFoundError where nothing is, and DataError."""
    names = published_models(home, dataset)
    if not names:
        raise NotFoundError(f"no model of data set {dataset!r} is published under {home}; run the pipeline (make run)")
    return purposes_of({name: published_metrics(home, dataset, name) for name in names})


def default_model(home: UPath, dataset: str) -> str:
    """The published model that answers when none is named. Raises as ``published_purposes`` does."""
    return next(iter(published_purposes(home, dataset)))


def _purpose(is_best_for_next: bool, is_best_for_likes: bool, is_measured: bool) -> Purpose:
    if is_best_for_next and is_best_for_likes:
        return Purpose.BOTH
    if is_best_for_next:
        return Purpose.NEXT
    if is_best_for_likes:
        return Purpose.LIKES
    return Purpose.COMPARISON if is_measured else Purpose.UNMEASURED
