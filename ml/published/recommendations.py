"""The top list of one user by a published model, in one call."""

from functools import lru_cache
from pathlib import Path

import pandas as pd
from upath import UPath

from ml.errors import NotFoundError
from ml.files import file_stamp, read_parquet
from ml.inference.recommend import Recommender
from ml.inference.scorer import Scorer
from ml.models.bundle import ModelBundle
from ml.published.champions import chosen_dataset, published_versions
from ml.published.locations import tables_directory
from ml.published.purposes import default_model
from ml.schema import Id


def get_recommendations(
    user_id: Id,
    year: int,
    month: int,
    model: str | None = None,
    top_k: int = 10,
    *,
    home: str | Path = "var",
    dataset: str | None = None,
) -> pd.DataFrame:
    """Recommend movies to a user by a published model; columns as in ``Recommender.recommend_all``.

    Args:
        user_id: the user's id, an int or a str as in the data set.
        year: year of the imagined rating.
        month: month of the imagined rating, 1-12.
        model: name of a published model, such as ``autoint``; default: the best one for finding what a user will watch
            next (``ml.published.purposes``).
        top_k: number of movies.
        home: the pipeline's home, a directory or fsspec URL.
        dataset: the data set's name; may be left out where only one is published.

    Raises:
        NotFoundError: an unknown user, year, month, model or data set; the message lists the known ones.
        DataError: a published file is missing or damaged.
    """
    place = UPath(home)
    dataset = chosen_dataset(place, dataset)
    return load_recommender(place, dataset, model or default_model(place, dataset)).recommend(
        user_id, year, month, top_k
    )


def load_recommender(home: UPath, dataset: str, model: str) -> Recommender:
    """Load the champion of a model; from memory while champion and ratings are the same. Raises as above."""
    champions = published_versions(home, dataset)
    if model not in champions:
        known = ", ".join(champions)
        raise NotFoundError(f"no model {model!r} of data set {dataset!r} is published; there are {known}")
    ratings = tables_directory(home, dataset) / "ratings.parquet"
    bundle = champions[model].bundle  # its path holds the version's number
    return _load(bundle, ratings, file_stamp(bundle), file_stamp(ratings))


@lru_cache(maxsize=8)
def _load(bundle: UPath, ratings: UPath, *stamps: tuple[float, int]) -> Recommender:
    """Load a network and ratings. The stamps tell versions of the same file apart."""
    table = read_parquet(ratings, ["user_id", "movie_id"])
    return Recommender(Scorer(ModelBundle.load(bundle)), table)
