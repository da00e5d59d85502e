"""What a user should see next: the unseen movies that the model thinks likeliest to be liked."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import sparse
from upath import UPath

from ml.errors import NotFoundError
from ml.inference.bundle import ModelBundle
from ml.inference.locations import bundle_path, published_datasets, published_models, tables_directory
from ml.inference.scorer import Scorer

_USERS_A_BLOCK = 128  # of 3,706 movies each: about 27 MB of codes


@dataclass(frozen=True)
class Progress:
    """How far a long computation is."""

    done: int
    total: int


class Recommender:
    """Ranks every movie that a user has not rated.

    Args:
        scorer: gives the probabilities.
        ratings: user_id, movie_id of all ratings, whose movies are never recommended to their users again.
    """

    def __init__(self, scorer: Scorer, ratings: pd.DataFrame) -> None:
        self.scorer = scorer
        known = ratings["user_id"].isin(scorer.user_ids) & ratings["movie_id"].isin(scorer.movie_ids)
        rows = scorer.positions("user_id", ratings.loc[known, "user_id"])
        columns = scorer.positions("movie_id", ratings.loc[known, "movie_id"])
        shape = (len(scorer.user_ids), len(scorer.movie_ids))
        self._seen = sparse.csr_array((np.ones(len(rows), dtype=bool), (rows, columns)), shape=shape)

    def recommend(self, user_id: int, year: int, month: int, top_k: int = 10) -> pd.DataFrame:
        """The top list of one user; columns as in ``recommend_all``. Raises NotFoundError."""
        return self._rank(np.array([self.scorer.user_position(user_id)]), year, month, top_k)

    def recommend_all(
        self, year: int, month: int, top_k: int = 10, on_progress: Callable[[Progress], None] = lambda progress: None
    ) -> pd.DataFrame:
        """The top lists of all users, by exact scores of all pairs, a block of users at a time.

        Args:
            year: of the imagined rating.
            month: of the imagined rating, 1-12.
            top_k: length of a list; shorter where a user has fewer unseen movies.
            on_progress: called after each block of users.

        Returns:
            user_id (int32), rank (int16, from 1), movie_id (int32), title, genres (str), score (float32, the
            probability of a like), rating_year (int16), rating_month (int8); by user and rank. Equal scores are
            ranked by movie_id.

        Raises:
            NotFoundError: a year or month that the model was not trained on.
        """
        users = len(self.scorer.user_ids)
        blocks = []
        for start in range(0, users, _USERS_A_BLOCK):
            block = np.arange(start, min(start + _USERS_A_BLOCK, users))
            blocks.append(self._rank(block, year, month, top_k))
            on_progress(Progress(int(block[-1]) + 1, users))
        return pd.concat(blocks, ignore_index=True)

    def _rank(self, users: np.ndarray, year: int, month: int, top_k: int) -> pd.DataFrame:
        if top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}")
        scores = self.scorer.score_catalogue(users, year, month)  # [users, movies]
        scores[self._seen[users].toarray()] = -np.inf
        # Movies stand in rising order of their ids, so that a stable sort ranks equal scores by id.
        top = np.argsort(-scores, axis=1, kind="stable")[:, :top_k]
        row, rank = np.nonzero(np.take_along_axis(scores, top, axis=1) > -np.inf)
        movie = top[row, rank]
        titles = self.scorer.bundle.movies[["title", "genres"]].iloc[movie].reset_index(drop=True)
        return pd.DataFrame(
            {
                "user_id": self.scorer.user_ids[users[row]].astype(np.int32),
                "rank": (rank + 1).astype(np.int16),
                "movie_id": self.scorer.movie_ids[movie].astype(np.int32),
                "title": titles["title"],
                "genres": titles["genres"],
                "score": scores[row, movie],
                "rating_year": np.int16(year),
                "rating_month": np.int8(month),
            }
        )


def get_recommendations(
    user_id: int,
    year: int,
    month: int,
    model: str,
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
        model: name of a published model, such as ``autoint``.
        top_k: how many movies.
        home: the pipeline's home, a directory or fsspec URL.
        dataset: the data set's name; may be left out where only one is published.

    Raises:
        NotFoundError: an unknown user, year, month, model or data set; the message says which are known.
    """
    return load_recommender(str(home), model, dataset).recommend(user_id, year, month, top_k)


@lru_cache(maxsize=8)
def load_recommender(home: str, model: str, dataset: str | None = None) -> Recommender:
    """A published model, ready to recommend; kept in memory. Arguments and errors as above."""
    place = UPath(home)
    datasets = published_datasets(place)
    if not datasets:
        raise NotFoundError(f"no model is published under {place}; run the pipeline first (make run)")
    if dataset is None and len(datasets) > 1:
        raise NotFoundError(f"several data sets are published under {place}: {', '.join(datasets)}; choose one")
    dataset = dataset or datasets[0]
    models = published_models(place, dataset)
    if model not in models:
        known = ", ".join(models) if dataset in datasets else f"data sets {', '.join(datasets)}"
        raise NotFoundError(f"no model {model!r} of data set {dataset!r} is published; there are {known}")
    bundle = ModelBundle.load(bundle_path(place, dataset, model))
    with (tables_directory(place, dataset) / "ratings.parquet").open("rb") as file:
        ratings = pd.read_parquet(file, columns=["user_id", "movie_id"])
    return Recommender(Scorer(bundle), ratings)
