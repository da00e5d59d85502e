"""What each published model is for, and which one answers when none is named.

Both are read off the measured figures, not off names, so that a recipe of one's own takes its place among the others.
"What should this user watch next?" is answered best by the model whose lists over the whole catalogue have the highest
NDCG@10; "would this user like this movie?" by the one with the highest AUC.
"""

from collections.abc import Iterable
from enum import StrEnum

import pandas as pd
from upath import UPath

from ml.errors import NotFoundError
from ml.files import read_parquet
from ml.inference.locations import published_models, tables_directory

_NEXT, _LIKES = "catalogue_ndcg_at_10", "auc"


class Purpose(StrEnum):
    """What a model is best for, among those that are published."""

    NEXT = "next"
    LIKES = "likes"
    BOTH = "both"
    COMPARISON = "comparison"
    UNMEASURED = "unmeasured"


SENTENCES = {
    Purpose.NEXT: "The best published model for finding what a user will watch next in the whole catalogue.",
    Purpose.LIKES: "The best published model for telling whether a user would like a given movie.",
    Purpose.BOTH: "The best published model for finding what a user will watch next in the whole catalogue, "
    "and for telling whether a user would like a given movie.",
    Purpose.COMPARISON: "For comparison: other published models are better at finding what a user will watch next "
    "and at telling whether a user would like a given movie.",
    Purpose.UNMEASURED: "Not measured yet; the next run's evaluation will tell what it is best for.",
}


def purposes_of(models: Iterable[str], evaluation: pd.DataFrame) -> dict[str, Purpose]:
    """What each model is for.

    Args:
        models: names of the published models.
        evaluation: model, metric, value; may hold other models, and lack some of these.

    Returns:
        By model, the one that answers when none is named first: by falling NDCG@10 over the whole catalogue, those
        without it last, equal ones by name.
    """
    names = sorted(models)
    rows = evaluation[evaluation["model"].isin(names) & evaluation["metric"].isin([_NEXT, _LIKES])]
    figures = rows.pivot_table(index="model", columns="metric", values="value")  # leaves out what is not a number
    figures = figures.reindex(index=names, columns=[_NEXT, _LIKES])
    best = {metric: figures[metric].idxmax() if figures[metric].notna().any() else None for metric in figures}
    ranked = figures.sort_values(_NEXT, ascending=False, kind="stable").index
    measured = figures.notna().any(axis=1)
    return {name: _purpose(name == best[_NEXT], name == best[_LIKES], bool(measured[name])) for name in ranked}


def read_evaluation(home: UPath, dataset: str) -> pd.DataFrame:
    """The data set's evaluation: model, metric, value; empty before the first one. Raises DataError."""
    path, columns = tables_directory(home, dataset) / "evaluation.parquet", ["model", "metric", "value"]
    return read_parquet(path, columns) if path.exists() else pd.DataFrame(columns=columns)


def default_model(home: UPath, dataset: str) -> str:
    """The published model that answers when none is named. Raises NotFoundError where none is published."""
    purposes = purposes_of(published_models(home, dataset), read_evaluation(home, dataset))
    if not purposes:
        raise NotFoundError(f"no model of data set {dataset!r} is published under {home}; run the pipeline (make run)")
    return next(iter(purposes))


def _purpose(is_best_for_next: bool, is_best_for_likes: bool, is_measured: bool) -> Purpose:
    if is_best_for_next and is_best_for_likes:
        return Purpose.BOTH
    if is_best_for_next:
        return Purpose.NEXT
    if is_best_for_likes:
        return Purpose.LIKES
    return Purpose.COMPARISON if is_measured else Purpose.UNMEASURED
