"""What a question is answered with."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pandas as pd

from ml.inference.visitors import Visitor
from ml.published.people import People
from ml.published.snapshot import PublishedModel


@dataclass(frozen=True)
class Answer:
    """One model's list.

    Attributes:
        model: that made it.
        rows: rank, movie_id, title, movie_year, genres, score.
        from_table: whether it is from the nightly table.
    """

    model: PublishedModel
    rows: pd.DataFrame
    from_table: bool

    @property
    def movies(self) -> list[int]:
        """Ids of the listed movies, best first."""
        return [int(movie) for movie in self.rows["movie_id"]]

    def reasons(self, liked: Sequence[int]) -> dict[int, int]:
        """Of listed movies the liked one that is their reason; needs the model's reasons, which may take a while."""
        found = self.model.live.explanations.nearest(self.movies, liked)
        return dict(zip(found["movie_id"], found["because"], strict=True))


def answer_user(
    model: PublishedModel, people: People, user_id: int, moment: tuple[int, int], among: Collection[int] | None
) -> Answer:
    """From the table where it has the month and all movies may be listed, else scored now. Raises NotFoundError."""
    if among is None and moment == model.lists.moment:
        return Answer(model, _with_years(model.list_of(user_id), people), from_table=True)
    rows = model.live.recommender.recommend(user_id, *moment, among=among)
    return Answer(model, _with_years(rows, people), from_table=False)


def answer_visitor(
    model: PublishedModel, people: People, visitor: Visitor, moment: tuple[int, int], among: Collection[int] | None
) -> Answer:
    """By the rule for a cold start, scored now. Raises NotFoundError."""
    rows = model.live.visitors.recommend(visitor, *moment, among=among)
    return Answer(model, _with_years(rows, people), from_table=False)


def _with_years(rows: pd.DataFrame, people: People) -> pd.DataFrame:
    own = rows[["rank", "movie_id", "title", "genres", "score"]].reset_index(drop=True)
    return own.join(people.movies["movie_year"], on="movie_id")
