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
from ml.published.locations import bundle_path, chosen_dataset, published_models, tables_directory
from ml.published.purposes import default_model


def get_recommendations(
    user_id: int,
    year: int,
    month: int,
    model: str | None = None,
    top_k: int = 10,
    *,
    home: str | Path = "var",
    dataset: str | None = None,
) -> pd.DataFrame:
    """The top list of one user by a published model; columns as in ``Recommender.recommend_all``.

    Args:
        user_id: who.
        year: of the imagined rating.
        month: of the imagined rating, 1-12.
        model: name of a published model, such as ``autoint``; default: the one that finds best what a user will watch
            next (``ml.published.purposes``).
        top_k: how many movies.
        home: the pipeline's home, a directory or fsspec URL.
        dataset: the data set's name; may be left out where only one is published.

    Raises:
        NotFoundError: an unknown user, year, month, model or data set; the message says which are known.
    """
    if model is None:
        place = UPath(home)
        model = default_model(place, chosen_dataset(place, dataset))
    return load_recommender(str(home), model, dataset).recommend(user_id, year, month, top_k)


def load_recommender(home: str, model: str, dataset: str | None = None) -> Recommender:
    """A published model, ready to recommend; in memory until another is published. Arguments and errors as above."""
    place = UPath(home)
    dataset = chosen_dataset(place, dataset)
    models = published_models(place, dataset)
    if model not in models:
        raise NotFoundError(f"no model {model!r} of data set {dataset!r} is published; there are {', '.join(models)}")
    files = bundle_path(place, dataset, model), tables_directory(place, dataset) / "ratings.parquet"
    return _loaded(*files, *(file_stamp(file) for file in files))


@lru_cache(maxsize=8)
def _loaded(bundle: UPath, ratings: UPath, *stamps: tuple[float, int]) -> Recommender:
    """What the files hold; the stamps tell their versions apart."""
    table = read_parquet(ratings, ["user_id", "movie_id"])
    return Recommender(Scorer(ModelBundle.load(bundle)), table)
