"""Tables whose columns a description names: read, derived, and refused by file, row and value."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from ml.data.datasets import load_datasets
from ml.data.formats import Format
from ml.data.ingestion import Ingestion
from ml.data.received import Known, Received
from ml.data.source import Source
from ml.errors import DataError
from ml.features.feature_map import FeatureMap
from ml.features.tables import join_interactions, preprocess_ratings

SHOP: dict[str, Any] = {
    "reader": "table",
    "liked": "all",
    "ratings": {"path": "orders/*.csv", "user": "customer", "item": "sku", "timestamp": "ordered_at"},
    "items": {
        "path": "products.csv",
        "key": "sku",
        "title": "name",
        "features": {
            "brand": "categorical",
            "tags": {"kind": "multivalued", "separator": ", "},
            "price": {"kind": "numeric", "bins": 2},
        },
    },
    "users": {"path": "customers.csv", "key": "customer", "features": {"country": "categorical"}},
}
FILES = {
    "products.csv": "stock,sku,name,brand,tags,price\n"
    '1,A/1,"Axe, big",Oak,"tool, new, sharp, red",10\n2,B-2,Bowl,,,\n3,C 3,Cup,Elm,new,30.5\n',
    "customers.csv": "customer,country\nc1,DE\nc2,\nc3,KR\n",
    "orders/1.csv": "customer,sku,ordered_at\nc1,A/1,2024-02-01T00:00:00Z\nc2,A/1,1706745600\nc1,C 3,2024-02-03\n",
    "orders/2.csv": "customer,sku,ordered_at\nc1,A/1,2024-03-01 12:00:00+01:00\nc3,B-2,2024-03-02\n",
}


def described(tmp_path: Path, document: dict[str, Any], files: dict[str, str] | None = None) -> Format:
    """Write a data set called shop and its description; return its format."""
    for name, text in (FILES | (files or {})).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, "utf-8")
    path = tmp_path / "datasets.yaml"
    path.write_text(yaml.safe_dump({"datasets": {"shop": document}}, sort_keys=False), "utf-8")
    return Source("shop", load_datasets(path), tmp_path).format


def test_a_shop_is_read(tmp_path: Path) -> None:
    form = described(tmp_path, SHOP)
    raw = form.read(tmp_path)
    assert raw.users.to_numpy().tolist() == [["c1", "DE"], ["c2", ""], ["c3", "KR"]]
    assert raw.movies[["movie_id", "title", "brand", "tags"]].to_numpy().tolist() == [
        ["A/1", "Axe, big", "Oak", "tool|new|sharp|red"],
        ["B-2", "Bowl", "", ""],
        ["C 3", "Cup", "Elm", "new"],
    ]
    assert raw.movies["price"].tolist()[::2] == [10, 30.5]
    # c1's first order of A/1 is repeated by a later one, which counts.
    assert raw.ratings[["user_id", "movie_id", "rating"]].to_numpy().tolist() == [
        ["c2", "A/1", 1],
        ["c1", "C 3", 1],
        ["c1", "A/1", 1],
        ["c3", "B-2", 1],
    ]
    times = pd.to_datetime(raw.ratings["timestamp"], unit="s").astype(str).tolist()
    assert times == ["2024-02-01 00:00:00", "2024-02-03 00:00:00", "2024-03-01 11:00:00", "2024-03-02 00:00:00"]


def test_features_become_categories(tmp_path: Path) -> None:
    form = described(tmp_path, SHOP)
    raw = form.read(tmp_path)
    movies, users = form.prepare_movies(raw.movies, raw.movies), form.prepare_users(raw.users, raw.users)
    assert movies[["brand", "price", "tags1", "tags2", "tags3"]].to_numpy().tolist() == [
        ["Oak", "below 30.5", "tool", "new", "sharp"],
        ["unknown", "unknown", "no", "no", "no"],
        ["Elm", "30.5 or more", "new", "no", "no"],
    ]
    assert users["country"].tolist() == ["DE", "unknown", "KR"]
    ratings = preprocess_ratings(raw.ratings, form.description.liked)
    joined = join_interactions(users, movies, ratings)
    assert joined["label"].tolist() == [1, 1, 1, 1]
    assert not joined.isna().to_numpy().any()
    tables = (table.assign(ingestion_batch=0) for table in (users, movies, ratings))
    feature_map = FeatureMap.grow(*tables, form.description)
    assert feature_map.names == (
        "user_id", "movie_id", "brand", "tags1", "tags2", "tags3", "price", "country",
        "rating_year", "rating_month", "rating_decade",
    )  # fmt: skip
    assert [feature_map[name].kind for name in ("brand", "tags2", "price")] == [
        "categorical",
        "multivalued",
        "numeric",
    ]
    assert (feature_map.multivalued_names, feature_map.liked) == (("tags",), None)
    assert FeatureMap.from_json(feature_map.to_json(), "here") == feature_map


def test_ranges_are_those_of_the_base_files(tmp_path: Path) -> None:
    form = described(tmp_path, SHOP)
    base = form.read(tmp_path).movies
    later = base.assign(price=[1000.0, 30.4, np.nan])
    assert form.prepare_movies(later, base)["price"].tolist() == ["30.5 or more", "below 30.5", "unknown"]


def test_ratings_alone_are_enough(tmp_path: Path) -> None:
    document = {
        "reader": "table",
        "liked": 3.5,
        "ratings": {"path": "stars.csv", "user": "u", "item": "i", "rating": "stars"},
        "ids": {"user": "integer"},
    }
    form = described(tmp_path, document, {"stars.csv": "i,stars,u\nb,3.5,7\na,1e1,007\na,-2,3\n"})
    raw = form.read(tmp_path)
    assert raw.users["user_id"].tolist() == [3, 7]
    assert raw.movies["movie_id"].tolist() == ["a", "b"]
    assert raw.ratings["rating"].tolist() == [3.5, 10, -2]
    assert raw.ratings["timestamp"].tolist() == [0, 0, 0]
    assert form.prepare_movies(raw.movies, raw.movies)["title"].tolist() == ["a", "b"]
    assert not form.description.has_times
    assert preprocess_ratings(raw.ratings, 3.5)["label"].tolist() == [1, 1, 0]


def test_parquet_is_read_with_its_types(tmp_path: Path) -> None:
    document = {
        **SHOP,
        "ratings": SHOP["ratings"] | {"path": "orders.parquet"},
        "items": {"path": "items.parquet", "key": "sku", "features": {"tags": "multivalued", "weight": "numeric"}},
        "ids": {"user": "integer"},
        "users": None,
    }
    form = described(tmp_path, {key: value for key, value in document.items() if value})
    times = pa.array([1_706_745_600_000, 1_706_745_601_999], pa.timestamp("ms", "UTC"))
    pq.write_table(pa.table({"customer": [5, 3], "sku": ["x", "y"], "ordered_at": times}), tmp_path / "orders.parquet")
    items = {"sku": ["x", "y"], "tags": [["red", "big"], None], "weight": pa.array([1, None], pa.int16())}
    pq.write_table(pa.table(items), tmp_path / "items.parquet")
    raw = form.read(tmp_path)
    assert raw.ratings["user_id"].tolist() == [5, 3]
    assert raw.ratings["timestamp"].tolist() == [1_706_745_600, 1_706_745_601]
    assert raw.movies["tags"].tolist() == ["red|big", ""]
    assert raw.movies["weight"].isna().tolist() == [False, True]


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("orders/1.csv", "customer,sku\nc1,A/1\n", "line 1: found 'customer,sku', expected a header that names"),
        ("orders/1.csv", "customer,sku,ordered_at\nc9,A/1,5\n", "line 2: found 'c9', expected user_id of a user of"),
        ("orders/2.csv", "customer,sku,ordered_at\nc1,Z,5\n", "2.csv, line 2: found 'Z', expected movie_id of a movie"),
        ("orders/2.csv", "customer,sku,ordered_at\nc1,A/1,soon\n", "line 2: found 'soon', expected a time from 1970"),
        ("orders/2.csv", "customer,sku,ordered_at\nc1,A/1,9999999999\n", "line 2: found '9999999999', expected a"),
        ("orders/2.csv", "customer,sku,ordered_at\nc1,A/1,1960-01-01\n", "line 2: found '1960-01-01', expected a time"),
        ("orders/2.csv", "customer,sku,ordered_at\nc1,A/1,0000-01-01\n", "line 2: found '0000-01-01', expected a time"),
        ("orders/2.csv", "customer,sku,ordered_at\n,A/1,5\n", "line 2: found '', expected user_id: 1 to 200"),
        ("orders/2.csv", "customer,sku,ordered_at\nc1,A/1\n", "line 2: found 'c1,A/1', expected 3 fields"),
        ("products.csv", "sku,name,brand,tags,price\nA/1,x,y,z,cheap\n", "line 2: found 'cheap', expected price as a"),
        ("products.csv", "sku,name,brand,tags,price\nA/1,x,y,z,inf\n", "line 2: found 'inf', expected price as a"),
        ("products.csv", "sku,name,brand,tags,price\nA/1, ,y,z,1\n", "line 2: found ' ', expected a title"),
        ("products.csv", "sku,name,brand,tags,price\nA/1,x,y,a|b,1\n", "values of tags without '|'"),
        ("products.csv", "sku,name,brand,tags,price\nA,x,y,z,1\nA,x,y,z,1\n", "line 3: found 'A', expected movie_id"),
        ("customers.csv", "customer,country,country\nc1,DE,FR\n", "expected a header that names each"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, file: str, text: str, words: str) -> None:
    form = described(tmp_path, SHOP, {file: text})
    with pytest.raises(DataError) as caught:
        form.read(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert words in str(caught.value)


def test_parquet_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    form = described(tmp_path, {**SHOP, "ratings": SHOP["ratings"] | {"path": "orders.parquet"}})
    path = tmp_path / "orders.parquet"
    with pytest.raises(DataError, match=r"lacks orders\.parquet"):
        form.read(tmp_path)
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=r"orders\.parquet: not readable as Parquet"):
        form.read(tmp_path)
    pq.write_table(pa.table({"customer": ["c1"], "sku": ["A/1"]}), path)
    with pytest.raises(DataError, match=r"orders\.parquet: lacks the columns ordered_at; it has customer, sku"):
        form.read(tmp_path)
    pq.write_table(pa.table({"customer": ["c1", None], "sku": ["A/1"] * 2, "ordered_at": [1, 2]}), path)
    with pytest.raises(DataError, match=r"orders\.parquet, row 2: found '', expected user_id"):
        form.read(tmp_path)
    pq.write_table(pa.table({"customer": [["c1"]], "sku": ["A/1"], "ordered_at": [1]}), path)
    with pytest.raises(DataError, match="column of user_id: expected text or numbers"):
        form.read(tmp_path)


def test_one_key_in_two_files_is_refused(tmp_path: Path) -> None:
    form = described(tmp_path, {**SHOP, "items": SHOP["items"] | {"path": "p*.csv"}}, {"p2.csv": FILES["products.csv"]})
    with pytest.raises(DataError, match=r"p\*\.csv: found movie_id A/1 in two files, expected in one"):
        form.read(tmp_path)


def test_batches_have_the_columns_of_the_base_files(tmp_path: Path) -> None:
    ingestion = Ingestion(tmp_path / "incoming", Received(tmp_path / "received", described(tmp_path, SHOP)))
    ingestion.incoming.mkdir()
    orders = "customer,sku,ordered_at\nc1,D4,2024-04-01T10:00:00Z\nc4,A/1,2024-04-02T00:00:00Z\n"
    for name, text in (
        ("movies-2024-04-01.csv", "sku,name,brand,tags,price\nD4,Dish,Oak,new,3\n"),
        ("users-2024-04-01.csv", "customer,country\nc4,FR\n"),
        ("ratings-2024-04-02.csv", orders),
        ("ratings-2024-04-03.csv", orders.replace("c4", "c5")),
    ):
        (ingestion.incoming / name).write_text(text, "utf-8")
    ingestion.claim()
    sorting = ingestion.sort(Known(pd.Series(["c1"]), pd.Series(["A/1"])), claimed_only=True)
    assert [each.name[:7] for each in sorting.good] == ["users-2", "movies-", "ratings"]
    assert "found 'c5', expected a user_id of customers.csv or a users batch" in sorting.waiting[0].reason
    ingestion.settle(sorting)
    assert ingestion.received.read("ratings")[["user_id", "movie_id", "rating"]].to_numpy().tolist() == [
        ["c1", "D4", 1],
        ["c4", "A/1", 1],
    ]
    assert ingestion.received.read("movies")["price"].tolist() == [3]


def without(key: str) -> dict[str, Any]:
    return {name: value for name, value in SHOP.items() if name != key}


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (without("reader"), "datasets.shop.reader: Field required"),
        (SHOP | {"reader": "excel"}, "datasets.shop.reader: Input should be"),
        (without("ratings"), "the reader table expects ratings"),
        (SHOP | {"path": "data"}, "neither path nor archive"),
        (SHOP | {"liked": 4}, "liked: expected 'all', since ratings names no column of ratings"),
        (SHOP | {"liked": "most"}, "datasets.shop.liked"),
        (SHOP | {"liked": float("inf")}, "expected a number, or all"),
        (SHOP | {"colour": "red"}, "datasets.shop.colour"),
        (SHOP | {"ratings": SHOP["ratings"] | {"path": "orders.xlsx"}}, "ends in .csv or .parquet"),
        (SHOP | {"users": SHOP["users"] | {"features": {"brand": "categorical"}}}, "expected each name once"),
        (SHOP | {"users": SHOP["users"] | {"features": {"label": "categorical"}}}, "cannot be named 'label'"),
        (SHOP | {"users": SHOP["users"] | {"features": {"rating_hour": "numeric"}}}, "cannot be named 'rating_hour'"),
        (SHOP | {"users": SHOP["users"] | {"features": {"Land": "categorical"}}}, "cannot be named 'Land'"),
        (SHOP | {"users": SHOP["users"] | {"features": {"genre": "multivalued"}}}, "cannot be named 'genre'"),
        (SHOP | {"users": SHOP["users"] | {"features": {"age_group": "number"}}}, "age_group.kind"),
        ({"reader": "movielens-csv"}, "expected either path, a directory, or archive"),
        ({"reader": "movielens-csv", "path": "x", "users": SHOP["users"]}, "movielens-csv knows its columns"),
        ({"reader": "movielens-csv", "archive": {"url": "ftp://x", "md5": "0" * 32}}, "archive.url"),
        ({"reader": "movielens-csv", "archive": {"url": "https://x", "md5": "?"}}, "archive.md5"),
        ({"reader": "movielens-csv", "path": "x", "expect": {"users": 0}}, "expect.users"),
    ],
)
def test_mistakes_in_a_description_are_named(tmp_path: Path, document: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError) as caught:
        described(tmp_path, document)
    assert str(tmp_path / "datasets.yaml") in str(caught.value)
    assert "datasets.shop" in str(caught.value)
    assert words in str(caught.value)


def test_a_movielens_can_have_another_limit_of_likes(tmp_path: Path) -> None:
    form = described(tmp_path, {"reader": "movielens-csv", "path": "ml", "liked": 3.5})
    assert (form.name, form.description.liked) == ("MovieLens CSV", 3.5)
    source = Source("shop", load_datasets(tmp_path / "datasets.yaml"), tmp_path)
    assert source.prepare(tmp_path / "cache") == tmp_path / "ml"
