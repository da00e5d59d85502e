"""The preprocessed tables and their join."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from ml import checks, schema
from ml.data.blocks import Blocks
from ml.data.history import BASE, history, present, present_in_blocks
from ml.features import tables
from ml.schema import Side
from orchestration.assets.common import OWNERS
from orchestration.config.code_versions import code_version
from orchestration.config.data_sets import DATA_SETS
from orchestration.reporting.check_results import blocking, checks_last, require
from orchestration.reporting.metadata import counts_metadata, table_metadata
from orchestration.resources.raw_data import RawData
from orchestration.resources.storage import Storage

_MOST_VALUES_SHOWN = 30
_COMMON: dict[str, Any] = {
    "group_name": "tables",
    "kinds": {"pandas", "parquet"},
    "owners": OWNERS,
    "partitions_def": DATA_SETS,
    "code_version": code_version(__name__),
}


@dg.asset(**_COMMON, check_specs=blocking("users", "complete"))
@checks_last
def users(raw_data: RawData, raw_users: pd.DataFrame, ingested_users: pd.DataFrame) -> Iterator[Any]:
    """Users with what the data set tells of them; ingested rows replace earlier ones.

    A zip code is a string, since it can begin with zeros.
    """
    rows = present(history(raw_users, ingested_users), ["user_id"])
    table = raw_data.format.prepare_users(rows[[*raw_users]], raw_users)
    yield from require("users", checks.complete(table))
    yield dg.MaterializeResult(value=table, metadata=_distributions(raw_data, "user", table))


@dg.asset(**_COMMON, check_specs=blocking("movies", "complete"))
@checks_last
def movies(raw_data: RawData, raw_movies: pd.DataFrame, ingested_movies: pd.DataFrame) -> Iterator[Any]:
    """Movies with their year, decade and up to three genres; ingested rows replace earlier ones.

    The year is in the last parentheses of the title; 0 and "unknown" where there is none. Missing genres are "no".
    """
    rows = present(history(raw_movies, ingested_movies), ["movie_id"])
    table = raw_data.format.prepare_movies(rows[[*raw_movies]], raw_movies)
    yield from require("movies", checks.complete(table))
    yield dg.MaterializeResult(value=table, metadata=_distributions(raw_data, "movie", table))


def _distributions(raw_data: RawData, side: Side, table: pd.DataFrame) -> dict[str, Any]:
    """How often each value of a side's features occurs, of those with few values."""
    names = [field.name for field in raw_data.format.description.fields if field.side == side]
    return {name: counts_metadata(table[name]) for name in names if table[name].nunique() <= _MOST_VALUES_SHOWN}


@dg.asset(**_COMMON, check_specs=blocking("ratings", "complete"))
@checks_last
def ratings(storage: Storage, raw_data: RawData, raw_ratings: Blocks, ingested_ratings: pd.DataFrame) -> Iterator[Any]:
    """Ratings with their year, month and decade (UTC) and their label (1 for a like), of base files and batches.

    One row per user and movie: the latest rating.
    """
    missing, years, ingested = [], [], 0
    with storage.writer("ratings") as table:
        for rows in present_in_blocks(raw_ratings, ingested_ratings, ["user_id", "movie_id"], "timestamp"):
            block = tables.preprocess_ratings(rows, raw_data.format.description.liked)
            table.append(block)
            missing.append(checks.complete(block))
            years.append(block["rating_year"])
            ingested += int((block["ingestion_batch"] > BASE).sum())
        yield from require("ratings", checks.added(missing))
        yield dg.MaterializeResult(
            value=table, metadata={"years": counts_metadata(pd.concat(years)), "ingested": ingested}
        )


@dg.asset(**_COMMON, check_specs=blocking("interactions", "known_keys", "both_labels"))
@checks_last
def interactions(storage: Storage, users: pd.DataFrame, movies: pd.DataFrame, ratings: Blocks) -> Iterator[Any]:
    """Every rating with its user, its movie and its label: 1 for a like (on MovieLens, a rating of 4 or more), else 0.

    A view, which is not stored: what needs these rows joins them, and encoded_interactions has their indices.
    """
    keys, labels, first = [], [], []
    for block in ratings:
        keys.append(checks.known_keys(block, users, movies))
        labels.append(block[schema.LABEL])
        first.append(block.head())
    found = pd.concat(labels)
    likes_only = storage.raw_data.format.description.liked is None
    yield from require("interactions", checks.added(keys), checks.both_labels(found, likes_only))
    head = tables.join_interactions(users, movies, pd.concat(first).head())
    shown = table_metadata(head, len(found), "interactions")
    yield dg.MaterializeResult(metadata={**shown, "labels": counts_metadata(found), **storage.stored()})
