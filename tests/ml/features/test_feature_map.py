import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml import schema
from ml.data.formats import RawTables
from ml.errors import DataError
from ml.features.feature_map import FeatureMap, FieldVocabulary
from ml.features.tables import preprocess_ratings
from tests import feature_maps
from tests.feature_maps import encode_interactions

FIELDS = (
    schema.Field("zip", "user"),
    schema.Field("movie_id", "movie"),
    schema.Field("rating_month", "context"),
    schema.Field("age", "user"),
)


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "age": pd.Series([56, 1, 18, 1], dtype="int32"),
            "movie_id": pd.Series([300, 7, 20, 7], dtype="int32"),
            "rating_month": pd.Series([12, 4, 4, 4], dtype="int8"),
            "zip": ["10001", "02139", "9", "02139"],
            "label": pd.Series([1, 0, 1, 1], dtype="int8"),
            "rating": pd.Series([5, 2, 4, 4], dtype="int8"),
            "timestamp": pd.Series([30, 10, 20, 10], dtype="int64"),
        }
    ).set_axis([5, 3, 8, 1])


def fitted() -> FeatureMap:
    return feature_maps.fitted(table(), FIELDS)


def assert_refused(values: object, field: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        fitted()[field].encode(values)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_fit_sorts_the_distinct_values_of_each_field_in_the_given_order() -> None:
    assert [(field.name, field.side, field.values) for field in fitted().fields] == [
        ("zip", "user", ("02139", "10001", "9")),
        ("movie_id", "movie", (7, 20, 300)),
        ("rating_month", "context", (4, 12)),
        ("age", "user", (1, 18, 56)),
    ]


def came(kind: str, *rows: tuple[object, ...]) -> pd.DataFrame:
    """Rows of a history; the last value of each is the batch."""
    columns = {"user": ["user_id", "zip"], "movie": ["movie_id", "genre1"], "rating": ["user_id", "movie_id", "month"]}
    return pd.DataFrame(rows, columns=[*columns[kind], "ingestion_batch"]).astype({"ingestion_batch": "int32"})


GROWN = schema.Description(
    (
        schema.Field("user_id", "user"),
        schema.Field("zip", "user"),
        schema.Field("movie_id", "movie"),
        schema.Field("genre1", "movie"),
        schema.Field("month", "context"),
    )
)


def test_values_that_are_delivered_have_codes_behind_the_others() -> None:
    users = came("user", (5, "m", 0), (3, "x", 0), (9, "a", 0), (4, "b", 1), (5, "c", 2), (1, "a", 2), (7, "q", 3))
    movies = came("movie", (20, "War", 0), (10, "Drama", 0), (30, "Crime", 0), (15, "Action", 2))
    ratings = came(
        "rating",
        (5, 20, 6, 0), (3, 10, 4, 0),  # user 9 and movie 30 have no rating yet
        (4, 20, 2, 1), (9, 30, 1, 3), (1, 15, 3, 3),  # user 1 and movie 15 came before their first rating
    )  # fmt: skip
    grown = FeatureMap.grow(users, movies, ratings, GROWN)
    assert grown.values == {
        "user_id": (3, 5, 4, 1, 9),  # user 7 has no rating
        "zip": ("m", "x", "b", "c", "a"),
        "movie_id": (10, 20, 15, 30),
        "genre1": ("Drama", "War", "Action", "Crime"),
        "month": (4, 6, 2, 1, 3),
    }


def test_grown_on_base_rows_it_is_fitted(
    small_raw: RawTables, small_users: pd.DataFrame, small_movies: pd.DataFrame, small_interactions: pd.DataFrame
) -> None:
    tables = (small_users, small_movies, preprocess_ratings(small_raw.ratings))
    assert FeatureMap.grow(
        *(table.assign(ingestion_batch=0) for table in tables), schema.MOVIELENS
    ) == feature_maps.fitted(small_interactions)


def test_values_of_a_multivalued_feature_are_in_the_order_of_their_first_batch() -> None:
    users, ratings = came("user", (5, "m", 0)), came("rating", (5, 20, 6, 0), (5, 10, 4, 0), (5, 15, 3, 1))
    movies = came("movie", (20, "War", 0), (10, "", 0), (30, "Crime", 0), (15, "Action", 0), (20, "War", 1)).assign(
        tags=["war|drama", "", "crime", "war|action|comedy", "war|a new tag"]
    )
    grown = FeatureMap.grow(users, movies, ratings, replace(GROWN, multivalued=("tags",)))
    # Movie 30 has no rating, and movie 15 only in the first batch.
    values = ("drama", "war", "a new tag", "action", "comedy")
    assert grown.multivalued == (FieldVocabulary("tags", "movie", "multivalued", values=values),)
    assert grown["tags"].values == values
    assert "tags" not in grown.names


def test_no_code_ever_changes() -> None:
    rng = np.random.default_rng(3)
    users = came("user", *((int(u), str(u % 7 + d), d) for d in range(6) for u in rng.choice(40, 8, replace=False)))
    movies = came("movie", *((int(m), str(m % 5 + d), d) for d in range(6) for m in rng.choice(40, 8, replace=False)))
    ratings = came(
        "rating", *((int(u), int(m), int(u + d), d) for d in range(6) for u, m in rng.integers(0, 40, (9, 2)))
    )
    known = ratings["user_id"].isin(users["user_id"]) & ratings["movie_id"].isin(movies["movie_id"])
    ratings = ratings[known]
    nights = [
        FeatureMap.grow(*(rows[rows["ingestion_batch"] <= night] for rows in (users, movies, ratings)), GROWN)
        for night in range(6)
    ]
    for before, after in itertools.pairwise(nights):
        for name, values in before.values.items():
            assert after.values[name][: len(values)] == values
    assert nights[-1].field_dims > nights[0].field_dims


def test_names_and_sizes_are_in_field_order() -> None:
    assert fitted().names == ("zip", "movie_id", "rating_month", "age")
    assert fitted().field_dims == (3, 3, 2, 3)


def test_transform_by_hand() -> None:
    codes = fitted().transform(table())
    assert codes.to_dict("list") == {
        "zip": [1, 0, 2, 0],
        "movie_id": [2, 0, 1, 0],
        "rating_month": [1, 0, 0, 0],
        "age": [2, 0, 1, 0],
    }
    assert list(codes.columns) == ["zip", "movie_id", "rating_month", "age"]
    assert codes.index.tolist() == [5, 3, 8, 1]
    assert set(codes.dtypes) == {np.dtype("int32")}


def test_codes_do_not_depend_on_the_rows_that_are_transformed() -> None:
    codes = fitted().transform(table().iloc[[2, 0]])
    assert codes["movie_id"].tolist() == [1, 2]
    assert codes["zip"].tolist() == [2, 1]


def test_codes_are_positions_in_the_vocabulary_for_all_fields(small_interactions: pd.DataFrame) -> None:
    feature_map = feature_maps.fitted(small_interactions)
    codes = feature_map.transform(small_interactions)
    assert feature_map.names == schema.FIELD_NAMES
    for field in feature_map.fields:
        assert list(field.values) == sorted(set(small_interactions[field.name]))
        assert [field.values[code] for code in codes[field.name]] == small_interactions[field.name].tolist()


@pytest.mark.parametrize("values", [[18, 56, 1], np.array([18, 56, 1]), pd.Series([18, 56, 1], index=[9, 8, 7])])
def test_encode_takes_lists_arrays_and_series(values: object) -> None:
    codes = fitted()["age"].encode(values)  # type: ignore[arg-type]
    assert codes.tolist() == [1, 2, 0]
    assert codes.dtype == np.int32


@pytest.mark.parametrize("values", [[1, 99, 98], np.array([99, 1]), pd.Series([18, 99], index=[7, 8], dtype="int16")])
def test_unknown_number_is_named_with_what_is_known(values: object) -> None:
    assert_refused(values, "age", "age 99 is unknown; expected one of 1, 18, 56")


def test_unknown_text_is_named_with_what_is_known() -> None:
    assert_refused(["9", "2139"], "zip", "zip '2139' is unknown; expected one of 02139, 10001, 9")


@pytest.mark.parametrize("value", ["18", None, 18.5, True])
def test_value_of_another_kind_is_unknown(value: object) -> None:
    assert_refused([value], "age", f"age {value!r} is unknown; expected one of 1, 18, 56")


def test_long_vocabulary_is_bounded_in_the_message() -> None:
    vocabulary = FieldVocabulary("movie_id", "movie", values=tuple(range(1, 2001)))
    with pytest.raises(
        DataError, match=r"^movie_id 0 is unknown; expected one of the 2,000 known values from 1 to 2000$"
    ):
        vocabulary.encode([0])


def test_transform_names_the_unknown_value() -> None:
    with pytest.raises(DataError, match="movie_id 8 is unknown"):
        fitted().transform(table().replace({"movie_id": {20: 8}}))


def test_transform_names_the_missing_columns() -> None:
    with pytest.raises(DataError, match="columns movie_id, age are missing; expected zip, movie_id, rating_month, age"):
        fitted().transform(table().drop(columns=["age", "movie_id"]))


@pytest.mark.parametrize(
    ("side", "names", "positions"),
    [("user", ("zip", "age"), [0, 3]), ("movie", ("movie_id",), [1]), ("context", ("rating_month",), [2])],
)
def test_sides(side: schema.Side, names: tuple[str, ...], positions: list[int]) -> None:
    feature_map = fitted()
    assert feature_map.side(side).names == names
    assert feature_map.side(side).fields == tuple(feature_map[name] for name in names)
    assert feature_map.positions(side) == positions


def test_field_is_found_by_name() -> None:
    assert fitted()["age"] == FieldVocabulary("age", "user", values=(1, 18, 56))


def test_document_by_hand() -> None:
    feature_map = FeatureMap(
        (FieldVocabulary("zip", "user", values=("01", "é")), FieldVocabulary("age", "user", "numeric", values=(1, 18))),
        (FieldVocabulary("tags", "movie", "multivalued", values=("b", "a")), FieldVocabulary("x", "movie", values=())),
        None,
    )
    document = {
        "version": 3,
        "liked": None,
        "fields": [
            {"name": "zip", "side": "user", "kind": "categorical", "size": 2, "values": ["01", "é"]},
            {"name": "age", "side": "user", "kind": "numeric", "size": 2, "values": [1, 18]},
        ],
        "multivalued": [
            {"name": "tags", "side": "movie", "kind": "multivalued", "size": 2, "values": ["b", "a"]},
            {"name": "x", "side": "movie", "kind": "categorical", "size": 0, "values": []},
        ],
    }
    assert feature_map.to_dict() == document
    assert FeatureMap.from_dict(document) == feature_map


def test_documents_of_the_first_version_are_of_movielens() -> None:
    fields = [{"name": "zip", "side": "user", "size": 2, "values": ["01", "é"]}]
    read = FeatureMap.from_dict({"version": 1, "fields": fields})
    assert (read.liked, read.multivalued_names, read["zip"].kind) == (4, ("genres",), "categorical")


def test_documents_of_the_second_version_name_multivalued_features_without_values() -> None:
    fields = [{"name": "zip", "side": "user", "kind": "categorical", "size": 2, "values": ["01", "é"]}]
    read = FeatureMap.from_dict({"version": 2, "liked": None, "multivalued": ["tags"], "fields": fields})
    assert read.multivalued == (FieldVocabulary("tags", "movie", "multivalued", values=()),)
    assert (read.liked, read["zip"].values) == (None, ("01", "é"))
    with pytest.raises(DataError, match=r"feature map: multivalued \[1\]; expected a list of names"):
        FeatureMap.from_dict({"version": 2, "liked": None, "multivalued": [1], "fields": fields})


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"liked": "4"}, "feature map: liked '4'; expected a number, or null"),
        ({"multivalued": "genres"}, "feature map: multivalued 'genres'; expected a list"),
        ({"multivalued": ["genres"]}, "feature map: a field has no name, side, size or values"),
        (
            {"multivalued": [{"name": "zip", "side": "user", "size": 0, "values": []}]},
            "fields zip, movie_id, rating_month, age, zip; expected each once",
        ),
    ],
)
def test_documents_with_another_description_are_refused(part: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words):
        FeatureMap.from_dict(fitted().to_dict() | part)


@pytest.mark.parametrize("assumed", [5, "4", True, [4]])
def test_a_document_that_assumes_an_unknown_value_is_refused(assumed: object) -> None:
    document = fitted().to_dict()
    assert "assumed" not in str(document)  # of the data set's own features
    document["fields"][2]["assumed"] = assumed
    with pytest.raises(DataError, match=r"feature map field rating_month: assumed .*; expected one of its values"):
        FeatureMap.from_dict(document)


def test_map_survives_json(small_interactions: pd.DataFrame) -> None:
    feature_map = feature_maps.fitted(small_interactions)
    data = feature_map.to_json()
    loaded = FeatureMap.from_json(data, "features.json")
    assert loaded == feature_map
    assert loaded.field_dims == feature_map.field_dims
    pd.testing.assert_frame_equal(loaded.transform(small_interactions), feature_map.transform(small_interactions))
    assert json.loads(data.decode("utf-8")) == feature_map.to_dict()


@pytest.mark.parametrize("version", [0, 4, "1", None])
def test_document_of_another_version_is_refused(version: object) -> None:
    with pytest.raises(DataError, match=f"feature map version {version!r}; expected 3"):
        FeatureMap.from_dict(fitted().to_dict() | {"version": version})


@pytest.mark.parametrize("values", [[1, 18], [1, 18, 18], [1, 18, 56, 57]], ids=["fewer", "repeated", "more"])
def test_document_whose_size_is_wrong_is_refused(tmp_path: Path, values: list[int]) -> None:
    document = fitted().to_dict()
    document["fields"][3]["values"] = values
    path = tmp_path / "features.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with pytest.raises(DataError, match="feature map field age: expected 3 distinct values"):
        FeatureMap.from_json(path.read_bytes(), str(path))


def test_encoded_interactions_are_codes_then_label_rating_and_timestamp() -> None:
    encoded = encode_interactions(table(), fitted())
    assert list(encoded.columns) == ["zip", "movie_id", "rating_month", "age", "label", "rating", "timestamp"]
    kept = ["label", "rating", "timestamp"]
    pd.testing.assert_frame_equal(encoded[kept], table()[kept])
    pd.testing.assert_frame_equal(encoded.drop(columns=kept), fitted().transform(table()))
