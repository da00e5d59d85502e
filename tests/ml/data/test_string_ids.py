"""Test that strings as ids pass through all tables, in the same way as integers."""

from pathlib import Path

import pandas as pd
import pytest

from ml import checks, schema
from ml.data.datasets import Dataset
from ml.data.formats import RawTables
from ml.data.history import history, present
from ml.data.manifest import KINDS
from ml.data.movielens_tables import preprocess_movies, preprocess_users
from ml.data.received import Ingested, Known
from ml.data.tables_format import table_format
from ml.errors import DataError
from ml.evaluation.drift import compare_nights
from ml.exploration import statistics
from ml.features.feature_map import FeatureMap
from ml.features.tables import join_interactions, preprocess_ratings
from tests.feature_maps import encode_interactions
from tests.ml.data.arriving import MARCH_1, ingestion_in
from tests.string_ids import NAMES, user_name, with_strings

USERS_ONLY = ["user_id"]  # their names are in the order of the numbers
KEYS = {"users": ["user_id"], "movies": ["movie_id"], "ratings": ["user_id", "movie_id"]}


SHOP = table_format(
    "shop",
    Dataset(
        reader="table",
        ratings={
            "path": "ratings.csv", "user": "user_id", "item": "movie_id", "rating": "rating", "timestamp": "timestamp"
        },
        items={"path": "movies.csv", "key": "movie_id", "title": "title"},
    ),
)  # fmt: skip


def tables_of(raw: RawTables, columns: list[str]) -> dict[str, pd.DataFrame]:
    """Return the tables of a data set without batches, with strings in some columns."""
    found = {}
    for kind, own in (("users", raw.users), ("movies", raw.movies), ("ratings", raw.ratings)):
        base = with_strings(own, columns)
        nothing = base.iloc[:0].assign(ingestion_batch=pd.Series(dtype="int32"), date=pd.Series(dtype="str"))
        rows = history(base, nothing)
        assert rows[KEYS[kind]].dtypes.tolist() == base[KEYS[kind]].dtypes.tolist()
        found[kind] = present(rows, KEYS[kind], ["timestamp"] if kind == "ratings" else [])
    return {
        "users": preprocess_users(found["users"]),
        "movies": preprocess_movies(found["movies"]),
        "ratings": preprocess_ratings(found["ratings"]),
    }


def joined(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    columns = ["ingestion_batch", "first_ingestion_batch"]
    return join_interactions(*(tables[kind].drop(columns=columns) for kind in ("users", "movies")), tables["ratings"])


@pytest.fixture(scope="module")
def numbers(small_raw: RawTables) -> dict[str, pd.DataFrame]:
    return tables_of(small_raw, [])


@pytest.mark.parametrize("columns", [USERS_ONLY, list(NAMES)])
def test_tables_and_indices_are_the_same(
    columns: list[str], small_raw: RawTables, numbers: dict[str, pd.DataFrame]
) -> None:
    named = tables_of(small_raw, columns)
    for kind, table in numbers.items():
        pd.testing.assert_frame_equal(named[kind], with_strings(table, columns))
    own, expected = joined(named), joined(numbers)
    pd.testing.assert_frame_equal(own, with_strings(expected, columns))
    assert checks.unique_keys(own, ["user_id", "movie_id"]).passed
    assert checks.complete(own).passed
    found, map_of_numbers = (FeatureMap.grow(**tables, description=schema.MOVIELENS) for tables in (named, numbers))
    assert found["user_id"].values == tuple(map(user_name, map_of_numbers["user_id"].values))
    assert found["movie_id"].values == tuple(sorted(named["ratings"]["movie_id"].unique()))
    encoded, by_number = encode_interactions(own, found), encode_interactions(expected, map_of_numbers)
    pd.testing.assert_series_equal(encoded["user_id"], by_number["user_id"])
    again = FeatureMap.from_json(found.to_json(), "here")
    assert checks.indices_kept(again.values, found.values).passed


def test_report_is_the_same(small_raw: RawTables, numbers: dict[str, pd.DataFrame]) -> None:
    both = tables_of(small_raw, list(NAMES)), numbers
    counts = [statistics.RatingCounts.of([tables["ratings"]]) for tables in both]
    totals = [statistics.totals(each["users"], each["movies"], own) for each, own in zip(both, counts, strict=True)]
    assert totals[0] == totals[1]
    for statistic in (statistics.ratings_by_genre, statistics.likes_by_decade):
        pd.testing.assert_frame_equal(*(statistic(each["movies"], own) for each, own in zip(both, counts, strict=True)))
    found, expected = map(statistics.ratings_by_month, counts)
    pd.testing.assert_frame_equal(found, expected)


def test_drift_is_the_same(small_raw: RawTables, numbers: dict[str, pd.DataFrame]) -> None:
    named = tables_of(small_raw, USERS_ONLY)
    batches = {"files": [{"sequence": 1, "ingestion": 1}, {"sequence": 2, "ingestion": 2}]}
    found, expected = (
        compare_nights(rows.assign(ingestion_batch=rows.index % 3), batches, schema.FIELDS)
        for rows in map(joined, (named, numbers))
    )
    pd.testing.assert_frame_equal(found.table, expected.table)


def test_users_who_have_rated_are_sorted_by_code_point(tmp_path: Path) -> None:
    ids = ["b", "é", "a", "Z", "\N{GRINNING FACE}", "\uffee", "b"]
    rows = "".join(f"{user},{number},4,9\n" for number, user in enumerate(ids))
    (tmp_path / "movies.csv").write_text("movie_id,title\n" + "".join(f"{n},T\n" for n in range(7)), "utf-8")
    (tmp_path / "ratings.csv").write_text(f"user_id,movie_id,rating,timestamp\n{rows}", "utf-8")
    found = SHOP.read(tmp_path).users
    assert found["user_id"].tolist() == ["Z", "a", "b", "é", "\uffee", "\N{GRINNING FACE}"]
    assert found["user_id"].dtype == "str"


def test_batches_with_strings_are_ingested(tmp_path: Path) -> None:
    ingestion = ingestion_in(tmp_path, SHOP)
    known = Known(pd.Series(["C-0017"]), pd.Series(["A/12 blue"]))
    assert (
        ingestion.received.read("users").dtypes["user_id"]
        == ingestion.received.read("ratings").dtypes["user_id"]
        == "str"
    )
    ingestion.incoming.mkdir()
    for name, text in (
        ("movies-2003-03-01.csv", "movie_id,title,genres\n007,Bond,Action\n"),
        ("ratings-2003-03-01.csv", f"user_id,movie_id,rating,timestamp\nC-0017,007,5,{MARCH_1}\nnew,A/12 blue,4,9\n"),
        ("ratings-2003-03-02.csv", f"user_id,movie_id,rating,timestamp\nC-0017,7,5,{MARCH_1}\n"),
    ):
        (ingestion.incoming / name).write_text(text, "utf-8")
    ingestion.claim()
    sorting = ingestion.sort(known, claimed_only=True)
    assert [(each.name, each.rows) for each in sorting.good] == [
        ("movies-2003-03-01.csv", 1),
        ("ratings-2003-03-01.csv", 2),
    ]
    [waiting] = sorting.waiting  # "7" is not "007"
    assert "found '7', expected a movie_id of movies.csv or a movies batch" in waiting.reason
    ingestion.settle(sorting)
    rows = ingestion.received.read("ratings")
    assert rows[["user_id", "movie_id"]].to_numpy().tolist() == [["C-0017", "007"], ["new", "A/12 blue"]]
    assert ingestion.received.read("users")["user_id"].tolist() == ["C-0017", "new"]
    table = tmp_path / "ratings.parquet"
    rows.to_parquet(table, index=False)
    earlier = Ingested(ingestion.received.version(ingestion.received.manifest, "ratings"), pd.read_parquet(table))
    (ingestion.incoming / "ratings-2003-03-03.csv").write_text(
        "user_id,movie_id,rating,timestamp\nlast,007,1,9\n", "utf-8"
    )
    again = ingestion.reusing(lambda kind: earlier if kind == "ratings" else None)
    again.claim()
    again.settle(again.sort(known, claimed_only=True))
    for kind in KINDS:  # users are those who have rated
        pd.testing.assert_frame_equal(again.received.read(kind), ingestion.received.read(kind))
    assert again.received.read("users")["user_id"].tolist() == ["C-0017", "new", "last"]
    with pytest.raises(DataError, match="only batch 1 has movie_id 007, which ratings of batch 2 refer to"):
        ingestion.received.withdraw(1, known)
