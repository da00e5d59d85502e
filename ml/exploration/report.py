"""Build the data report: one self-contained HTML page."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
import pandas as pd
from jinja2 import Environment
from markupsafe import Markup
from matplotlib.figure import Figure

from ml import schema
from ml.exploration import charts, statistics
from ml.exploration.statistics import FEW_RATINGS, RatingCounts
from ml.small_charts import bar_chart, line_chart

_DPI = 110
_GENRES_DRAWN = 8  # in the small chart
_MOST_GENRES = 40  # in the large charts; the most values of other features too
_TITLES = {"age": "age group"}


@dataclass(frozen=True)
class Section:
    """A chart with a caption.

    Attributes:
        key: short name, used as anchor.
        title: heading.
        text: caption, a sentence or two.
        picture: PNG.
    """

    key: str
    title: str
    text: str
    picture: bytes

    @property
    def source(self) -> Markup:
        """Return the chart as a data URL."""
        return Markup("data:image/png;base64,") + base64.b64encode(self.picture).decode()


def sections(
    users: pd.DataFrame,
    movies: pd.DataFrame,
    counts: RatingCounts,
    fields: Sequence[schema.Field] = schema.FIELDS,
) -> list[Section]:
    """Return all sections for users and movies, whose features are ``fields``, and the counts of their ratings."""
    features = {side: [field.name for field in fields if field.side == side] for side in ("movie", "user")}
    of_movies = (
        _of_movies(movies, counts)
        if {"movie_decade", "movie_year"} <= {*features["movie"]}
        else _of_features(movies, features["movie"], "items")
    )
    return [*_of_ratings(counts), *of_movies, *_of_features(users, features["user"], "users")]


def key_pictures(movies: pd.DataFrame, counts: RatingCounts) -> dict[str, str]:
    """Return small copies of the main charts, SVG by name."""
    months = statistics.ratings_by_month(counts)
    shares = statistics.shares_of_the_top(statistics.long_tail(counts.by_movie))
    genres = statistics.movies_by_genre(movies).head(_GENRES_DRAWN)
    of_genres = {"movies_by_genre": bar_chart(genres)} if (movies["genres"] != "").any() else {}
    return {
        "ratings_by_rating": bar_chart(counts.by_value),
        **of_genres,
        "ratings_by_month": line_chart(months[["ratings"]]),
        "long_tail": line_chart(shares.to_frame("% of ratings, top % of movies")),
    }


def page(dataset: str, totals: Mapping[str, float], parts: list[Section]) -> str:
    """Return the page as HTML. The same tables produce the same page."""
    text = files("ml.exploration").joinpath("report.html").read_text(encoding="utf-8")
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(text)
    facts = {
        "users": f"{totals['users']:,}",
        "movies": f"{totals['movies']:,}",
        "rated movies": f"{totals['rated_movies']:,}",
        "ratings": f"{totals['ratings']:,}",
        "mean rating": f"{totals['mean_rating']:.3f}",
        "share of likes": f"{totals['like_share']:.1%}",
        "user-movie pairs that are rated": f"{totals['density']:.1%}",
        "median ratings per user": f"{totals['median_of_user']:,.0f}",
        "median ratings per movie": f"{totals['median_of_movie']:,.0f}",
        f"movies with fewer than {FEW_RATINGS} ratings": f"{totals['rarely_rated']:,}",
    }
    return template.render(dataset=dataset, facts=facts, sections=parts)


def _of_ratings(counts: RatingCounts) -> list[Section]:
    distribution = counts.by_value
    months = statistics.ratings_by_month(counts)
    busiest = months["ratings"].idxmax()
    most_common = distribution.idxmax()
    tails = [statistics.long_tail(table) for table in (counts.by_movie, counts.by_user)]
    return [
        Section(
            "ratings",
            "Ratings",
            f"The most common rating is {most_common:g}: {distribution.max() / counts.ratings:.0%} of all ratings. "
            "A like is a rating of at least the limit of the data set: 4 on MovieLens.",
            _png(charts.bars(distribution, "ratings")),
        ),
        Section(
            "months",
            "Ratings by month",
            f"The busiest month, {busiest}, has {months['ratings'].max() / counts.ratings:.0%} of all ratings; "
            f"{statistics.share_in_one_month(counts):.0%} of the users gave all their ratings in a single month.",
            _png(charts.counts_and_likes(months, ["ratings", "new_users"])),
        ),
        Section(
            "tail",
            "The long tail",
            _tail_text(*tails),
            _png(charts.tails(*tails)),
        ),
    ]


def _tail_text(of_movies: np.ndarray, of_users: np.ndarray) -> str:
    movies, users = map(statistics.top_shares, (of_movies, of_users))
    text = ", ".join(f"the top {top:.0%} have {share:.0%}" for top, share in movies.items())
    return f"Of the movies, {text} of all ratings. Of the users, the top 10% gave {users[0.1]:.0%}."


def _of_movies(movies: pd.DataFrame, counts: RatingCounts) -> list[Section]:
    genres, by_genre = statistics.movies_by_genre(movies), statistics.ratings_by_genre(movies, counts)
    years, decades = statistics.movies_by_year(movies), statistics.likes_by_decade(movies, counts)
    best, worst = by_genre["mean_rating"].idxmax(), by_genre["mean_rating"].idxmin()
    liked, median = decades["like_share"].idxmax(), movies["movie_year"].quantile(interpolation="higher")
    return [
        Section(
            "genres",
            "Movies by genre",
            _genres_text(genres),
            _png(charts.bars(genres.head(_MOST_GENRES), "movies")),
        ),
        Section(
            "genre-ratings",
            "Ratings by genre",
            f"{best} has the highest mean rating ({by_genre['mean_rating'].max():.2f}), {worst} the lowest "
            f"({by_genre['mean_rating'].min():.2f}).",
            _png(charts.bars_and_means(by_genre.head(_MOST_GENRES))),
        ),
        Section(
            "years",
            "Movies by release year",
            f"Half of the movies were released in {median} or later.",
            _png(charts.columns(years, "release year", "movies")),
        ),
        Section(
            "decades",
            "Ratings by release decade",
            f"Movies from the {liked} are liked most: {decades['like_share'].max():.0%} of their ratings are likes.",
            _png(charts.counts_and_likes(decades, ["ratings"])),
        ),
    ]


def _genres_text(genres: pd.Series) -> str:
    largest = " and ".join(map(str, genres.index[:2]))
    drawn = f" The chart shows the {_MOST_GENRES} largest of {len(genres)}." if len(genres) > _MOST_GENRES else ""
    return f"A movie counts in each of its genres. The largest: {largest}.{drawn}"


def _of_features(table: pd.DataFrame, features: Sequence[str], what: str) -> list[Section]:
    """Return a section for each feature with few values; ``what`` are the rows of the table."""
    found = []
    for name in features:
        if name not in table or table[name].nunique() > _MOST_GENRES:
            continue
        counts = statistics.users_by(table, name)
        text = f"The largest group, {counts.idxmax()}, has {counts.max() / len(table):.0%} of the {what}."
        title = f"{what.capitalize()} by {_TITLES.get(name, name.replace('_', ' '))}"
        found.append(Section(name, title, text, _png(charts.bars(counts, what))))
    return found


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, metadata={"Software": None})
    return buffer.getvalue()
