"""The small data set with strings instead of integers as ids."""

from collections.abc import Callable, Collection
from dataclasses import replace

import pandas as pd

from ml.models.bundle import ModelBundle


def user_name(number: int) -> str:
    """Return a user's id as a string; the order is that of the numbers."""
    return f"ü/{number:04d} ?#+*"


def movie_name(number: int) -> str:
    """Return a movie's id as a string; the order is not that of the numbers."""
    return f"m/{number} <x>"


NAMES: dict[str, Callable[[int], str]] = {"user_id": user_name, "movie_id": movie_name}


def with_strings(table: pd.DataFrame, columns: Collection[str] = tuple(NAMES)) -> pd.DataFrame:
    """Return a table with strings in the columns of ids that it has."""
    return table.assign(**{name: table[name].map(NAMES[name]).astype("str") for name in columns if name in table})


def with_string_vocabulary(bundle: ModelBundle, columns: Collection[str] = tuple(NAMES)) -> ModelBundle:
    """Return a bundle whose ids are strings, each with the index of its number."""
    fields = [
        replace(field, values=tuple(map(NAMES[field.name], field.values))) if field.name in columns else field
        for field in bundle.feature_map.fields
    ]
    users, movies = (with_strings(table, columns) for table in (bundle.users, bundle.movies))
    return ModelBundle.of(
        bundle.network, replace(bundle.feature_map, fields=tuple(fields)), users, movies, bundle.numbers
    )
