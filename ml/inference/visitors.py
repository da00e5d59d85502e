"""Recommend to visitors without a history: a visitor is scored like the most similar known users.

A network has no embedding for an id that it was not trained on. So known users who like at least one movie are ranked
by

    cosine of the sets of liked movies + DEMOGRAPHIC_WEIGHT * share of the given demographics, such as gender and age
    group, that they have too,

and a movie's score for the visitor is its mean probability of a like over the first ``COMPANIONS`` of them. This is the
neighborhood of user-based collaborative filtering (Herlocker et al., SIGIR 1999) with a model's scores instead of
ratings.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from ml import schema
from ml.errors import DataError

if TYPE_CHECKING:  # Keras is slow to import, and a visitor can be described without it
    from ml.inference.recommend import Recommender

COMPANIONS = 15
DEMOGRAPHIC_WEIGHT = 0.1


@dataclass(frozen=True)
class Visitor:
    """What a person without a history tells about themselves.

    Attributes:
        demographics: values by column of the users table, such as ``{"gender": "F", "age": 25}``.
        liked: ids of liked movies.
    """

    demographics: Mapping[str, str | int] = field(default_factory=dict)
    liked: tuple[schema.Id, ...] = ()


class VisitorRecommender:
    """Ranks all movies for a visitor.

    Args:
        recommender: of the model.
        users: user_id and the columns that a visitor may give values of. Users that the model does not know are left
            out.
        ratings: user_id, movie_id and label (1 for a like) of the known users.
    """

    def __init__(self, recommender: "Recommender", users: pd.DataFrame, ratings: pd.DataFrame) -> None:
        self._recommender = recommender
        # A model holds the columns that it was trained on; a visitor can be compared by others too.
        self._users = users[users["user_id"].isin(recommender.scorer.user_ids)]
        liked = ratings[ratings[schema.LABEL] == 1]
        self._likes = recommender.scorer.known_pairs(liked, np.float32)
        self._lengths = np.sqrt(self._likes.sum(axis=1))

    def companions(self, visitor: Visitor, count: int = COMPANIONS) -> np.ndarray:
        """Indices of the known users who are most similar to the visitor, in descending order of similarity.

        Equally similar ones are in ascending order.

        Raises:
            NotFoundError: the visitor likes a movie that the model does not know.
            DataError: no known user has a given value.
        """
        similarity = np.where(self._lengths > 0, 0.0, -np.inf)
        if visitor.liked:
            movies = self._recommender.scorer.indices("movie_id", list(dict.fromkeys(visitor.liked)))
            shared = self._likes[:, movies].sum(axis=1)
            similarity += shared / (np.maximum(self._lengths, 1) * np.sqrt(len(movies)))
        if given := visitor.demographics:
            same = sum(self._have(name, value).astype(np.float64) for name, value in given.items())
            similarity += DEMOGRAPHIC_WEIGHT * same / len(given)
        return np.argsort(-similarity, kind="stable")[: min(count, np.isfinite(similarity).sum())]

    def _have(self, name: str, value: str | int) -> np.ndarray:
        """Which known users have a value, bool [users]. Raises DataError if none has it."""
        users = self._users
        if name not in users or not (same := users[name] == value).any():
            known = ", ".join(map(str, sorted(users[name].unique()))) if name in users else "the columns of users"
            raise DataError(f"{name} {value!r}; expected one of {known}")
        return pd.Index(self._recommender.scorer.user_ids).isin(users.loc[same, "user_id"])

    def recommend(
        self, visitor: Visitor, year: int, month: int, top_k: int = 10, among: Collection[schema.Id] | None = None
    ) -> pd.DataFrame:
        """List the visitor's best movies; as ``Recommender.recommend``, without the column user_id."""
        rows = self._recommender.scorer.catalogue(year, month).rows(self.companions(visitor))
        probabilities = expit(rows.astype(np.float64)).mean(axis=0, keepdims=True)
        return self._recommender.ranked(
            logit(probabilities).astype(np.float32), visitor.liked, year, month, top_k, among
        )
