"""What is known of all users and movies, whether they have training rows or not."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ml import schema
from ml.features.feature_map import FeatureMap


@dataclass(frozen=True)
class Sides:
    """The encoded features of all users and movies.

    Attributes:
        users: int32 columns, one row for each user, in index order.
        movies: the same for movies.
    """

    users: pd.DataFrame
    movies: pd.DataFrame

    @classmethod
    def of(cls, feature_map: FeatureMap, users: pd.DataFrame, movies: pd.DataFrame) -> "Sides":
        """Encode the users and movies that a feature map knows, from the preprocessed tables."""
        return cls(
            feature_map.side("user").transform(feature_map.known("user_id", users)),
            feature_map.side("movie").transform(feature_map.known("movie_id", movies)),
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of users and of movies."""
        return len(self.users), len(self.movies)


def telling_rows(ratings: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return rows that have every user, movie and moment that occurs in a batch, of ratings in blocks.

    Args:
        ratings: user_id, movie_id, ingestion_batch, and the features of the moment.

    Returns:
        The first rows of each block with a user, a movie or a moment.
    """
    told = (["user_id"], ["movie_id"], ["rating_year", "rating_month"])  # which tell the decade too
    found = []
    for block in ratings:
        repeated = [block.duplicated([*columns, schema.BATCH]) for columns in told]
        found.append(block[~np.logical_and.reduce(repeated)])
    return pd.concat(found, ignore_index=True)


def encode_ratings(ratings: pd.DataFrame, sides: Sides, feature_map: FeatureMap) -> pd.DataFrame:
    """Encode ratings with the features of their users and movies.

    Args:
        ratings: user_id, movie_id, the features of the moment, label, rating and timestamp; with the columns that say
            which batch a row came with, or without them.
        sides: of the same feature map.
        feature_map: of the data set.

    Returns:
        int32 indices of all features in the feature map's order, label, rating, timestamp (int64), and the columns of
        the batches; rows as in ``ratings``.

    Raises:
        DataError: a rating has an unknown user, movie or moment.
    """
    indices: dict[str, np.ndarray] = {}
    for key, table in (("user_id", sides.users), ("movie_id", sides.movies)):
        own = feature_map[key].encode(ratings[key])
        indices |= {str(name): table[name].to_numpy()[own] for name in table}
    moments = feature_map.side("context").transform(ratings)
    indices |= {str(name): moments[name].to_numpy() for name in moments}
    encoded = pd.DataFrame({name: indices[name] for name in feature_map.names}, index=ratings.index)
    kept = [schema.LABEL, "rating", "timestamp", *(name for name in schema.ORIGIN if name in ratings)]
    return pd.concat([encoded, ratings[kept]], axis=1)
