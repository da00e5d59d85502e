"""A published top-10 table in memory: one user's list without a network."""

from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np
import pandas as pd
from upath import UPath

from ml.errors import DataError, NotFoundError
from ml.files import read_parquet
from ml.schema import Id

_COLUMNS = ("user_id", "rank", "movie_id", "title", "genres", "score", "rating_year", "rating_month", "model_version")


@dataclass(frozen=True)
class PublishedLists:
    """The lists of all users by one version of a model for one month.

    Attributes:
        year: year of the imagined ratings.
        month: month of the imagined ratings, 1-12.
        table: user_id, rank, movie_id, title, genres, score; sorted by user and rank.
    """

    year: int
    month: int
    table: pd.DataFrame

    @classmethod
    def load(cls, path: UPath, version: str) -> "PublishedLists":
        """Read a published table.

        Args:
            path: the file.
            version: number of the version that the rows have to name.

        Raises:
            DataError: it is no such table, or it is of another version or of several months.
        """
        table = read_parquet(path, _COLUMNS)
        about = table[["model_version", "rating_year", "rating_month"]].drop_duplicates()
        if len(about) != 1 or str(about["model_version"].iloc[0]) != version:
            found = about.to_dict("records")
            expected = f"expected lists of version {version} for one month"
            raise DataError(f"{path}: {expected}, found {found}; publish it again (make run)")
        _, year, month = about.iloc[0]
        lists = table.drop(columns=list(about)).sort_values(["user_id", "rank"], ignore_index=True)
        return cls(int(year), int(month), lists)

    @property
    def moment(self) -> tuple[int, int]:
        """Year and month."""
        return self.year, self.month

    @cached_property
    def users(self) -> pd.Index:
        """Ids of users with a list, in ascending order."""
        return pd.Index(self.table["user_id"].unique())

    def of(self, user_id: Id) -> pd.DataFrame:
        """The rows of one user. Raises NotFoundError."""
        try:
            position = cast(int, self.users.get_loc(user_id))  # ids are unique
        except KeyError as error:
            first, last = self.users[[0, -1]].tolist()
            raise NotFoundError(
                f"unknown user_id {user_id!r}; there are lists of {len(self.users):,} users from {first!r} to {last!r}"
            ) from error
        return self.table.iloc[self._starts[position] : self._starts[position + 1]]

    @cached_property
    def _starts(self) -> np.ndarray:
        """The first row of each user, and the number of all rows."""
        return np.append(np.flatnonzero(~self.table["user_id"].duplicated()), len(self.table))
