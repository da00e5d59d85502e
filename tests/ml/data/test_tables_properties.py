"""Properties of the reader of anybody's tables, with generated CSV and Parquet files; as for MovieLens's formats."""

import csv
import io
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml import schema
from ml.data.datasets import Dataset
from ml.data.formats import Format
from ml.data.tables_format import table_format
from tests.ml.data.test_format_properties import read_or_refusal

FEW, MANY = 40, 500  # examples
REFUSED = re.compile(
    r".*(, (line|row) \d+: found .+, expected .+|: (empty|no rows|not readable|lacks the columns|column of).*)",
    re.DOTALL,
)
CHARACTERS = st.characters(blacklist_categories=("Cc", "Cs"), blacklist_characters="|\ufffd\x85\u2028\u2029")
TEXT = st.text(CHARACTERS, max_size=9)
IDS = TEXT.filter(lambda text: text.strip() == text and text != "")
NUMBERS = st.none() | st.floats(-1e6, 1e6, width=32)
Table = tuple[list[str], list[tuple[Any, ...]]]


def form_of(suffix: str, integers: bool = False) -> Format:
    """The format of ratings and items in files with a suffix."""
    side = {"path": f"items{suffix}", "key": "sku", "title": "name", "features": {"brand": "categorical",
            "tags": "multivalued", "price": "numeric"}}  # fmt: skip
    ratings = {"path": f"ratings{suffix}", "user": "who", "item": "sku", "rating": "stars", "timestamp": "at"}
    ids = {"user": "integer" if integers else "string"}
    return table_format("own", Dataset(reader="table", ratings=ratings, items=side, ids=ids))


@st.composite
def tables(draw: st.DrawFn) -> tuple[Table, Table]:
    """Items and ratings, as columns and rows; further columns are ignored."""
    items = draw(st.lists(IDS, min_size=1, max_size=5, unique=True))
    tags = st.lists(TEXT.map(str.strip).filter(bool), max_size=4).map("|".join)
    described = [
        (draw(TEXT), item, draw(TEXT.filter(str.strip)), draw(TEXT), draw(tags), draw(NUMBERS)) for item in items
    ]
    pairs = st.tuples(st.integers(0, schema.LARGEST_ID), st.sampled_from(items))
    rated = draw(st.lists(pairs, min_size=1, max_size=9, unique=True))
    ratings = [(*pair, draw(st.floats(-9, 9, width=32)), draw(st.integers(0, 10**9))) for pair in rated]
    return (["note", "sku", "name", "brand", "tags", "price"], described), (["who", "sku", "stars", "at"], ratings)


def write(path: Path, columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    if path.suffix == ".parquet":
        pd.DataFrame(rows, columns=list(columns)).to_parquet(path, index=False)
        return
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *rows])
    path.write_bytes(text.getvalue().encode())


def check_round_trip(suffix: str, found: tuple[Table, Table]) -> None:
    (columns, items), (rated, ratings) = found
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / f"items{suffix}", columns, items)
        write(Path(folder) / f"ratings{suffix}", rated, ratings)
        form = form_of(suffix, integers=True)
        read = form.read(Path(folder))
    texts = read.movies[["movie_id", "title", "brand", "tags"]]
    assert [tuple(row) for row in texts.to_numpy()] == [row[1:5] for row in items]
    np.testing.assert_array_equal(read.movies["price"], np.array([row[5] for row in items], float))
    own = read.ratings[["user_id", "movie_id", "rating", "timestamp"]]
    assert list(own.itertuples(index=False, name=None)) == ratings
    ready = form.prepare_movies(read.movies, read.movies)
    assert not ready.drop(columns="price").isna().to_numpy().any()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_what_is_written_is_read_back(suffix: str) -> None:
    settings(max_examples=FEW, deadline=None)(given(tables())(lambda found: check_round_trip(suffix, found)))()


ITEMS = ["note", "sku", "name", "brand", "tags", "price"], [("x", "a/1", "Axe, big", "Oak", "new|red", 1.5),
                                                          ("", "b 2", 'Bowl "b"', "", "", None)]  # fmt: skip
RATINGS = (
    ["who", "sku", "stars", "at"],
    [("ann", "a/1", 4.0, 86_400), ("bob", "b 2", 2.5, 90_000), ("ann", "b 2", 1.0, 7)],
)


def check_changed_byte(suffix: str, name: str, data: bytes, at: int, byte: int) -> None:
    form = form_of(suffix)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / f"items{suffix}", *ITEMS)
        write(Path(folder) / f"ratings{suffix}", *RATINGS)
        (Path(folder) / name).write_bytes(data[:at] + bytes([byte]) + data[at + 1 :])
        read, problem = read_or_refusal(form, Path(folder))
    if read is None:
        assert REFUSED.fullmatch(problem), problem
        assert folder in problem
        return
    assert read.movies["movie_id"].is_unique
    assert read.ratings["movie_id"].isin(read.movies["movie_id"]).all()
    assert not read.ratings.duplicated(["user_id", "movie_id"]).any()
    assert np.isfinite(read.ratings[["rating", "timestamp"]].to_numpy(float)).all()


def changed_bytes(suffix: str, name: str, folder: Path, examples: int) -> None:
    path = folder / f"{name}{suffix}"
    write(path, *(ITEMS if name == "items" else RATINGS))
    data = path.read_bytes()
    places = st.integers(0, len(data) - 1)
    check = given(places, st.integers(0, 255))(lambda at, byte: check_changed_byte(suffix, path.name, data, at, byte))
    settings(max_examples=examples, deadline=None)(check)()


CHANGED = [(suffix, name) for suffix in (".csv", ".parquet") for name in ("items", "ratings")]


@pytest.mark.parametrize(("suffix", "name"), CHANGED)
def test_a_changed_byte_is_read_sanely_or_refused(suffix: str, name: str, tmp_path: Path) -> None:
    changed_bytes(suffix, name, tmp_path, FEW)


@pytest.mark.slow
@pytest.mark.parametrize(("suffix", "name"), CHANGED)
def test_many_changed_bytes_are_read_sanely_or_refused(suffix: str, name: str, tmp_path: Path) -> None:
    changed_bytes(suffix, name, tmp_path, MANY)
