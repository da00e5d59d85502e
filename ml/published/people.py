"""Users and their ratings, for pages about a user."""

from collections.abc import Collection
from functools import cached_property
from typing import cast

import pandas as pd
from upath import UPath

from ml import schema
from ml.errors import NotFoundError
from ml.files import read_parquet
from ml.published.locations import tables_directory

MOST_CHOICES = 50  # values of a feature that a visitor can tell


class People:
    """The preprocessed tables, queried for one user at a time.

    Attributes:
        users: indexed by user_id.
        movies: title, movie_year, genres; indexed by movie_id.
        ratings: sorted by user and time.
        years: years with a rating, in ascending order.
        months: months (1-12) with a rating, in ascending order.
        has_times: whether the ratings have times; without them, each timestamp is 0.
        has_ratings: whether there are different ratings; where all rows are likes, each is 1.
        user_id_type: int or str.
        movie_id_type: int or str.

    Args:
        users: user_id, and the features that the data set has.
        movies: movie_id, title, movie_year, genres.
        ratings: user_id, movie_id, rating, timestamp (seconds since 1970, UTC), label (1 for a like). Without labels,
            as in tables of earlier releases, which were all of MovieLens, a rating of 4 or more is a like.
    """

    def __init__(self, users: pd.DataFrame, movies: pd.DataFrame, ratings: pd.DataFrame) -> None:
        self.user_id_type, self.movie_id_type = schema.id_type(users["user_id"]), schema.id_type(movies["movie_id"])
        self.users = users.set_index("user_id").sort_index()
        self.movies = movies.set_index("movie_id")[["title", "movie_year", "genres"]].sort_index()
        # A run writes its tables one after another: for a short time ratings may name movies that are not there yet.
        known = ratings["movie_id"].isin(self.movies.index) & ratings["user_id"].isin(self.users.index)
        self.ratings = ratings[known].sort_values(["user_id", "timestamp", "movie_id"], ignore_index=True)
        if schema.LABEL not in ratings:
            self.ratings[schema.LABEL] = schema.likes(self.ratings["rating"], schema.LIKED_RATING).astype("int8")
        rating = self.ratings["rating"]
        self.has_times, self.has_ratings = bool(self.ratings["timestamp"].any()), bool(rating.max() > rating.min())
        when = pd.to_datetime(self.ratings["timestamp"], unit="s").dt
        self.years, self.months = (sorted(map(int, part.unique())) for part in (when.year, when.month))
        self._starts = self.ratings["user_id"].searchsorted(self.users.index)
        self._ends = self.ratings["user_id"].searchsorted(self.users.index, side="right")

    @property
    def first_and_last(self) -> tuple[schema.Id, schema.Id]:
        """The lowest and the highest user id."""
        first, last = self.users.index[[0, -1]].tolist()
        return first, last

    @property
    def span(self) -> tuple[pd.Timestamp, pd.Timestamp]:
        """Times of the first and the last rating, UTC."""
        times = self.ratings["timestamp"]
        return pd.Timestamp(times.min(), unit="s"), pd.Timestamp(times.max(), unit="s")

    @cached_property
    def titles_of_rated(self) -> pd.Series:
        """Titles with years of the rated movies, indexed by movie_id and sorted by title."""
        rated = self.movies[self.movies.index.isin(self.ratings["movie_id"])]
        return full_titles(rated).sort_values()

    def profile(self, user_id: schema.Id) -> dict[str, str | int]:
        """What the data set tells of a user, by column. Raises NotFoundError."""
        row = self.users.iloc[[self._position(user_id)]]
        return {str(name): values.tolist()[0] for name, values in row.items()}

    def choices(self, most: int) -> dict[str, list[str | int]]:
        """The values of each feature of users that has at most ``most`` of them, sorted, by its name."""
        values = {str(name): sorted(column.unique().tolist()) for name, column in self.users.items()}
        return {name: own for name, own in values.items() if len(own) <= most}

    @cached_property
    def visitor_choices(self) -> dict[str, list[str | int]]:
        """What a visitor without a history can tell, in the web app and over REST: values by feature, as ``choices``.

        Features with more values, such as zip codes, would tell single users apart.
        """
        return self.choices(MOST_CHOICES)

    def history(self, user_id: schema.Id) -> pd.DataFrame:
        """A user's ratings, the latest first.

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
            liked=rows[schema.LABEL] == 1,
        ).reset_index(drop=True)[["movie_id", "title", "movie_year", "genres", "rating", "when", "liked"]]

    @cached_property
    def genres(self) -> list[str]:
        """All genres, sorted."""
        return sorted(set(self.movies["genres"].str.split("|").explode()) - {""})

    @property
    def released(self) -> tuple[int, int]:
        """The first and the last year in which a movie was released; ``NO_YEAR`` twice if none is known."""
        years = self.movies["movie_year"]
        known = years[years != schema.NO_YEAR]
        return (int(known.min()), int(known.max())) if len(known) else (schema.NO_YEAR, schema.NO_YEAR)

    def matching(self, genres: Collection[str], released: tuple[int, int]) -> list[schema.Id]:
        """Find movies by genre and release year.

        Args:
            genres: a movie matches with at least one of them; empty: every movie matches.
            released: first and last year; a movie without a year only matches all years.

        Returns:
            Ids of the movies.
        """
        fits = self.movies["movie_year"].between(*released) | (released == self.released)
        if genres:
            fits &= self.movies["genres"].str.split("|").map(lambda own: not set(own).isdisjoint(genres))
        return self.movies.index[fits].tolist()

    def _position(self, user_id: schema.Id) -> int:
        try:
            return cast(int, self.users.index.get_loc(user_id))  # ids are unique
        except KeyError as error:
            (first, last), count = self.first_and_last, len(self.users)
            raise NotFoundError(
                f"unknown user_id {user_id!r}; there are {count:,} users from {first!r} to {last!r}"
            ) from error


def parse_user_id(text: str, home: UPath, dataset: str) -> schema.Id:
    """Parse the id of a user of a published data set.

    Args:
        text: the id as text.
        home: the pipeline's home.
        dataset: the data set's name.

    Raises:
        DataError: it is no id of the data set's type, or the table of users cannot be read.
    """
    ids = read_parquet(tables_directory(home, dataset) / "users.parquet", ["user_id"])["user_id"]
    return schema.parse_id(text, schema.id_type(ids))


def full_titles(movies: pd.DataFrame) -> pd.Series:
    """Titles with their years, such as "Heat (1995)", of rows with title and movie_year."""
    years = movies["movie_year"]
    return movies["title"] + (" (" + years.astype(str) + ")").where(years != schema.NO_YEAR, "")
