import base64
from html.parser import HTMLParser

import pandas as pd
import pytest

from ml.data.formats import RawTables
from ml.exploration.report import Section, key_pictures, page, sections
from ml.exploration.statistics import RatingCounts, totals
from ml.features.tables import preprocess_ratings

Tables = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]


class Document(HTMLParser):
    """Parse the parts of a page that the tests check."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def tables(small_users: pd.DataFrame, small_movies: pd.DataFrame, small_raw: RawTables) -> Tables:
    return small_users, small_movies, preprocess_ratings(small_raw.ratings)


def counted(tables: Tables) -> tuple[pd.DataFrame, pd.DataFrame, RatingCounts]:
    users, movies, ratings = tables
    return users, movies, RatingCounts.of([ratings])


@pytest.fixture(scope="module")
def parts(tables: Tables) -> list[Section]:
    return sections(*counted(tables))


@pytest.fixture(scope="module")
def document(tables: Tables, parts: list[Section]) -> Document:
    return Document(page("small", totals(*counted(tables)), parts))


def test_page_is_self_contained(document: Document) -> None:
    assert all(str(image["src"]).startswith("data:image/png;base64,") for image in document.of("img"))
    assert document.of("script") == document.of("link") == []
    assert all(str(link["href"]).startswith("#") for link in document.of("a"))


def test_every_chart_is_complete_captioned_and_linked(document: Document, parts: list[Section]) -> None:
    assert [part.key for part in parts] == [
        "ratings", "months", "tail", "genres", "genre-ratings", "years", "decades", "gender", "age", "occupation",
    ]  # fmt: skip
    images = document.of("img")
    for part, image in zip(parts, images, strict=True):
        assert base64.b64decode(str(image["src"]).partition(",")[2]) == part.picture
        assert part.picture.startswith(b"\x89PNG")
        assert part.text in str(image["alt"])
        assert part.text in document.text
    assert [link["href"] for link in document.of("a")] == [f"#{part.key}" for part in parts]
    assert {heading.get("id") for heading in document.of("h2")} == {part.key for part in parts}


def test_counts_are_the_tables(document: Document, tables: Tables) -> None:
    users, movies, ratings = tables
    for count in (len(users), len(movies), len(ratings), ratings["movie_id"].nunique()):
        assert f"{count:,}" in document.text
    assert f"{(ratings['rating'] >= 4).mean():.1%}" in document.text


def test_the_same_tables_produce_the_same_page(tables: Tables, parts: list[Section]) -> None:
    counts = totals(*counted(tables))
    assert page("small", counts, sections(*counted(tables))) == page("small", counts, parts)


def test_names_are_escaped(tables: Tables) -> None:
    part = Section("x", "<script>alert(1)</script>", "a & b", b"")
    found = page("<b>", totals(*counted(tables)), [part])
    assert "<script>" not in found
    assert "&lt;b&gt;" in found


def test_any_genres_are_drawn(tables: Tables, parts: list[Section]) -> None:
    users, movies, ratings = tables
    genres = ["$x$", "$\\frac$", *(f"Genre {number}" for number in range(58))]
    found = {
        part.key: part for part in sections(users, movies.assign(genres="|".join(genres)), RatingCounts.of([ratings]))
    }
    assert found["genres"].picture.startswith(b"\x89PNG")
    assert "the 40 largest of 60" in found["genres"].text
    assert not any("largest of" in part.text for part in parts if part.key == "genres")


def test_a_single_rating_is_drawn(tables: Tables) -> None:
    users, movies, ratings = tables
    one, counts = ratings.iloc[:1], RatingCounts.of([ratings.iloc[:1]])
    rated = movies[movies["movie_id"].isin(one["movie_id"])]
    assert all(part.picture for part in sections(users, rated, counts))
    assert all(svg.startswith("<svg") for svg in key_pictures(rated, counts).values())


def test_small_charts_are_small(tables: Tables) -> None:
    _, movies, ratings = tables
    months = key_pictures(movies, RatingCounts.of([ratings]))["ratings_by_month"]
    assert all(month in months for month in (">2000-04<", ">2001-09<", ">2003-02<"))
