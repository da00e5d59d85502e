"""Derive the features of MovieLens's users and movies."""

import numpy as np
import pandas as pd

from ml import schema
from ml.data.slots import slots_of

# A year may be the first of a range, such as (2006-2007) or (1983-), and be followed by spaces.
_YEAR_IN_TITLE = r"^(.*\S)\s*\(([0-9]{4})(?:[-\u2013]\s*[0-9]{0,4}\s*)?\)\s*$"


def split_title(titles: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Split titles such as ``"Heat (1995)"`` into ``"Heat"`` (str) and 1995 (int16); ``schema.NO_YEAR`` without one."""
    parts = titles.str.extract(_YEAR_IN_TITLE)
    years = parts[1].fillna(str(schema.NO_YEAR)).astype(np.int16)
    return parts[0].fillna(titles).str.strip().astype("str"), years


def has_codes(users: pd.DataFrame) -> bool:
    """Return whether ages and occupations are the codes of MovieLens-1M, not years and words as in MovieLens-100K."""
    return "occupation" in users and pd.api.types.is_integer_dtype(users["occupation"])


def preprocess_users(raw_users: pd.DataFrame) -> pd.DataFrame:
    """Return the users unchanged; a zip code stays a string, since it can start with zeros."""
    return raw_users.copy()


def preprocess_movies(raw_movies: pd.DataFrame) -> pd.DataFrame:
    """Add columns for a movie's year, decade and up to three genres; further columns stay.

    Returns:
        movie_id int32; title (without the year), genres str (empty if none are listed); movie_year int16 (``NO_YEAR``
        if the title has none); movie_decade, genre1, genre2, genre3 str ("no" if a movie has fewer genres).
    """
    title, year = split_title(raw_movies["title"])
    listed = raw_movies["genres"].where(raw_movies["genres"] != schema.NO_GENRES, "")
    movies = raw_movies.assign(
        title=title, genres=listed, movie_year=year, movie_decade=year.map(schema.decade_of).astype("str")
    )
    return movies.assign(**slots_of("genre", listed))
