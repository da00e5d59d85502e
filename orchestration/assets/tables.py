"""The preprocessed tables and their join."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pandas as pd

from ml import checks, schema
from ml.features import tables
from orchestration.assets.common import OWNERS
from orchestration.checks import blocking, require
from orchestration.code_versions import code_version
from orchestration.metadata import counts_metadata

_COMMON: dict[str, Any] = {
    "group_name": "tables",
    "kinds": {"pandas", "parquet"},
    "owners": OWNERS,
    "code_version": code_version(__name__),
}


@dg.asset(**_COMMON, check_specs=blocking("users", "complete"))
def users(raw_users: pd.DataFrame) -> Iterator[Any]:
    """Users with gender, age group, occupation and zip code."""
    table = tables.preprocess_users(raw_users)
    yield from require("users", checks.complete(table))
    distributions = {"genders": counts_metadata(table["gender"]), "age_groups": counts_metadata(table["age"])}
    yield dg.MaterializeResult(value=table, metadata=distributions)


@dg.asset(**_COMMON, check_specs=blocking("movies", "complete"))
def movies(raw_movies: pd.DataFrame) -> Iterator[Any]:
    """Movies with their year, decade and up to three genres."""
    table = tables.preprocess_movies(raw_movies)
    yield from require("movies", checks.complete(table))
    distributions = {
        "first_genres": counts_metadata(table["genre1"]),
        "decades": counts_metadata(table["movie_decade"]),
    }
    yield dg.MaterializeResult(value=table, metadata=distributions)


@dg.asset(**_COMMON, check_specs=blocking("ratings", "complete"))
def ratings(raw_ratings: pd.DataFrame) -> Iterator[Any]:
    """Ratings with their year, month and decade."""
    table = tables.preprocess_ratings(raw_ratings)
    yield from require("ratings", checks.complete(table))
    yield dg.MaterializeResult(value=table, metadata={"years": counts_metadata(table["rating_year"])})


@dg.asset(**_COMMON, check_specs=blocking("interactions", "row_count", "unique_keys", "complete"))
def interactions(users: pd.DataFrame, movies: pd.DataFrame, ratings: pd.DataFrame) -> Iterator[Any]:
    """Every rating with its user and its movie, labelled: liked or not."""
    table = tables.join_interactions(users, movies, ratings)
    yield from require(
        "interactions",
        checks.row_count(len(table), len(ratings)),
        checks.unique_keys(table, ["user_id", "movie_id"]),
        checks.complete(table),
    )
    yield dg.MaterializeResult(value=table, metadata={"labels": counts_metadata(table[schema.LABEL])})
