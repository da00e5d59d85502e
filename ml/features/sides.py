"""What is known of all users and movies, whether they have training rows or not."""

from dataclasses import dataclass

import pandas as pd

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
