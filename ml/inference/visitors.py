"""Recommend to somebody without a history: a visitor is scored as the known users who are most like them.

A network cannot embed an id that it was not trained on. So the rule for a cold start is: known users who like any movie
are ranked by

    cosine of the sets of liked movies + DEMOGRAPHIC_WEIGHT * share of the given gender, age group and occupation
    that they have too,

and a movie's chance with the visitor is its mean chance, by the model, with the first ``COMPANIONS`` of them (the
neighbourhood of user-based collaborative filtering, Herlocker et al., SIGIR 1999, averaging a model's scores in place
of ratings).
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import expit, logit

from ml import schema
from ml.errors import DataError

if TYPE_CHECKING:  # Keras is slow to import, and a visitor can be described without it
    from ml.inference.recommend import Recommender

COMPANIONS = 15
DEMOGRAPHIC_WEIGHT = 0.1


@dataclass(frozen=True)
class Visitor:
    """What somebody without a history says.

    Attributes:
        gender: one of ``schema.GENDERS``; None: not said.
        age: a key of ``schema.AGE_GROUPS``; None: not said.
        occupation: position in ``schema.OCCUPATIONS``; None: not said.
        liked: ids of movies.
    """

    gender: str | None = None
    age: int | None = None
    occupation: int | None = None
    liked: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        allowed: dict[str, Collection] = {
            "gender": schema.GENDERS,
            "age": schema.AGE_GROUPS,
            "occupation": range(len(schema.OCCUPATIONS)),
        }
        for name, values in allowed.items():
            if (value := getattr(self, name)) is not None and value not in values:
                raise DataError(f"{name} {value!r}; expected one of {', '.join(map(str, values))}")

    @property
    def demographics(self) -> dict[str, str | int]:
        """What was said of gender, age and occupation."""
        said = {name: getattr(self, name) for name in ("gender", "age", "occupation")}
        return {name: value for name, value in said.items() if value is not None}


class VisitorRecommender:
    """Ranks all movies for a visitor.

    Args:
        recommender: of the model.
        ratings: user_id, movie_id, rating of the known users.
    """

    def __init__(self, recommender: "Recommender", ratings: pd.DataFrame) -> None:
        self._recommender, scorer = recommender, recommender.scorer
        liked = ratings[ratings["rating"] >= schema.LIKED_RATING]
        known = liked["user_id"].isin(scorer.user_ids) & liked["movie_id"].isin(scorer.movie_ids)
        cells = [scorer.positions(name, liked.loc[known, name]) for name in ("user_id", "movie_id")]
        shape = (len(scorer.user_ids), len(scorer.movie_ids))
        self._likes = sparse.csr_array((np.ones(int(known.sum()), np.float32), cells), shape=shape)
        self._lengths = np.sqrt(self._likes.sum(axis=1))

    def companions(self, visitor: Visitor, count: int = COMPANIONS) -> np.ndarray:
        """Positions of the known users who are most like the visitor, the most alike first; equal ones in code order.

        Raises:
            NotFoundError: the visitor likes a movie that the model does not know.
        """
        likeness = np.where(self._lengths > 0, 0.0, -np.inf)
        if visitor.liked:
            movies = self._recommender.scorer.positions("movie_id", list(set(visitor.liked)))
            shared = self._likes[:, movies].sum(axis=1)
            likeness += shared / (np.maximum(self._lengths, 1) * np.sqrt(len(movies)))
        if said := visitor.demographics:
            users = self._recommender.scorer.bundle.users
            same = sum((users[name] == value).to_numpy(np.float64) for name, value in said.items())
            likeness += DEMOGRAPHIC_WEIGHT * same / len(said)
        return np.argsort(-likeness, kind="stable")[: min(count, np.isfinite(likeness).sum())]

    def recommend(
        self, visitor: Visitor, year: int, month: int, top_k: int = 10, among: Collection[int] | None = None
    ) -> pd.DataFrame:
        """The visitor's top list; arguments, columns (without user_id) and errors as in ``Recommender.recommend``."""
        rows = self._recommender.scorer.catalogue(year, month).rows(self.companions(visitor))
        chances = expit(rows.astype(np.float64)).mean(axis=0, keepdims=True)
        return self._recommender.ranked(logit(chances).astype(np.float32), visitor.liked, year, month, top_k, among)
