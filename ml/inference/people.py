"""Who the users are and what they rated: what a page about a user shows."""

from dataclasses import dataclass

import pandas as pd

from ml import schema
from ml.errors import NotFoundError


@dataclass(frozen=True)
class Profile:
    """What a user said of themselves.

    Attributes:
        user_id: who.
        gender: one of ``schema.GENDERS``.
        age: first year of the age group, a key of ``schema.AGE_GROUPS``.
        occupation: position in ``schema.OCCUPATIONS``.
        zip: as it was given, leading zeros kept.
    """

    user_id: int
    gender: str
    age: int
    occupation: int
    zip: str


class People:
    """The preprocessed tables, one user at a time.

    Args:
        users: user_id, gender, age, occupation, zip.
        movies: movie_id, title, movie_year, genres.
        ratings: user_id, movie_id, rating, timestamp (seconds since 1970, UTC).
    """

    def __init__(self, users: pd.DataFrame, movies: pd.DataFrame, ratings: pd.DataFrame) -> None:
        self.users = users.set_index("user_id").sort_index()
        self.movies = movies.set_index("movie_id")[["title", "movie_year", "genres"]].sort_index()
        # A run writes its tables one after the other, so that ratings may be ahead of movies for a moment.
        known = ratings["movie_id"].isin(self.movies.index) & ratings["user_id"].isin(self.users.index)
        self.ratings = ratings[known].sort_values(["user_id", "timestamp", "movie_id"], ignore_index=True)
        self._starts = self.ratings["user_id"].searchsorted(self.users.index)
        self._ends = self.ratings["user_id"].searchsorted(self.users.index, side="right")

    def profile(self, user_id: int) -> Profile:
        """Who a user is. Raises NotFoundError."""
        row = self.users.iloc[self._position(user_id)]
        return Profile(int(user_id), str(row["gender"]), int(row["age"]), int(row["occupation"]), str(row["zip"]))

    def history(self, user_id: int) -> pd.DataFrame:
        """What a user rated, the latest first.

        Returns:
            movie_id, title, movie_year, genres, rating, when (datetime64, UTC), liked (bool).

        Raises:
            NotFoundError: there is no such user.
        """
        position = self._position(user_id)
        rows = self.ratings.iloc[self._starts[position] : self._ends[position]].iloc[::-1]
        history = rows[["movie_id", "rating"]].join(self.movies, on="movie_id")
        return history.assign(
            when=pd.to_datetime(rows["timestamp"], unit="s", utc=True),
            liked=rows["rating"] >= schema.LIKED_RATING,
        ).reset_index(drop=True)[["movie_id", "title", "movie_year", "genres", "rating", "when", "liked"]]

    def genres(self) -> list[str]:
        """Every genre that a movie has, sorted."""
        return sorted(set(self.movies["genres"].str.split("|").explode()))

    def _position(self, user_id: int) -> int:
        ids = self.users.index
        position = int(ids.searchsorted(user_id))
        if position == len(ids) or ids[position] != user_id:
            raise NotFoundError(f"unknown user_id {user_id}; there are {len(ids):,} users from {ids[0]} to {ids[-1]}")
        return position
