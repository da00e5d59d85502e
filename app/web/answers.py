"""Compute the lists that answer a query."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pandas as pd

from ml.inference.visitors import Visitor
from ml.published.people import People
from ml.published.snapshot import PublishedModel
from ml.schema import Id


@dataclass(frozen=True)
class Answer:
    """One model's list.

    Attributes:
        model: the model that ranked it.
        rows: rank, movie_id, title, movie_year, genres, score; one row per listed movie.
        from_table: whether it comes from the nightly table.
    """

    model: PublishedModel
    rows: pd.DataFrame
    from_table: bool

    @property
    def movies(self) -> list[Id]:
        """Return the ids of the listed movies, best first."""
        return self.rows["movie_id"].tolist()

    def explanations(self, liked: Sequence[Id]) -> dict[Id, Id]:
        """Return the liked movie that explains each listed movie; slow until the model's explanations are computed."""
        found = self.model.live.explanations.nearest(self.movies, liked)
        return dict(zip(found["movie_id"], found["because"], strict=True))


def answer_user(
    model: PublishedModel, people: People, user_id: Id, moment: tuple[int, int], among: Collection[Id] | None
) -> Answer:
    """Return a user's list: from the table if it has the month and there is no filter, otherwise scored live.

    Raises:
        NotFoundError: the user, a liked movie, the year or the month is unknown to the model.
    """
    if among is None and moment == model.lists.moment:
        return Answer(model, _with_years(model.list_of(user_id), people), from_table=True)
    rows = model.live.recommender.recommend(user_id, *moment, among=among)
    return Answer(model, _with_years(rows, people), from_table=False)


def answer_visitor(
    model: PublishedModel, people: People, visitor: Visitor, moment: tuple[int, int], among: Collection[Id] | None
) -> Answer:
    """Return a visitor's list, scored live by the cold-start rule; raises as ``answer_user`` does."""
    rows = model.live.visitors.recommend(visitor, *moment, among=among)
    return Answer(model, _with_years(rows, people), from_table=False)


def _with_years(rows: pd.DataFrame, people: People) -> pd.DataFrame:
    own = rows[["rank", "movie_id", "title", "genres", "score"]].reset_index(drop=True)
    return own.join(people.movies["movie_year"], on="movie_id")
