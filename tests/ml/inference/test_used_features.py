"""A bundle holds what its network uses; scores are those of all features, also of bundles that hold all of them."""

import io
import json
import zipfile
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from ml.errors import DataError
from ml.features.collaborative_tables import CollaborativeTables
from ml.features.feature_map import FeatureMap
from ml.inference.recommend import Recommender
from ml.inference.scorer import Scorer
from ml.inference.visitors import Visitor, VisitorRecommender
from ml.models.autoint import Inputs, Multivalued, build_model, with_collaborative
from ml.models.bundle import ModelBundle
from ml.models.config import AutoIntConfig
from ml.training.data import PAIR
from tests.ml.models.reference import randomize

MOMENT = (2002, 11)
USED = {
    "fields": ("movie_year", "rating_month", "gender"),
    "multivalued": ("movie_year", "rating_month", "gender"),
    "signals": ("movie_decade",),
}
USERS = ["user_id", "gender", "age", "occupation", "zip"]
MOVIES = ["movie_id", "title", "genres", "movie_decade", "movie_year", "genre1", "genre2", "genre3"]


def network_of(kind: str, feature_map: FeatureMap) -> keras.Model:
    """A network with random weights that embeds few features."""
    dims = feature_map.field_dims
    positions = [feature_map.names.index(name) for name in USED[kind]]
    config = AutoIntConfig(embed_dim=4, num_layers=1, num_heads=2, head_dim=2)
    inputs = Inputs(dims, positions)
    if kind == "multivalued":
        shares = np.random.default_rng(3).random((dims[PAIR[1]], 5), np.float32)
        inputs = Inputs(dims, positions, multivalued=(Multivalued("genres", PAIR[1], shares),))
    if kind == "signals":
        inputs = Inputs(dims, positions, centres=[0.5], scales=[2.0])
    network = build_model("autoint", inputs, config, seed=1)
    randomize(network, scale=0.5)
    if kind == "signals":
        sides = [np.random.default_rng(4).random((dims[position], 2), np.float32) for position in PAIR]
        network = with_collaborative(network, CollaborativeTables(("like",), (2,), *sides), PAIR)
    return network


@pytest.fixture(scope="module", params=["fields", "multivalued", "signals"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def made(
    kind: str, small_feature_map: FeatureMap, small_users: pd.DataFrame, small_movies: pd.DataFrame
) -> ModelBundle:
    return ModelBundle.of(network_of(kind, small_feature_map), small_feature_map, small_users, small_movies)


def table_of(data: bytes, name: str) -> pd.DataFrame:
    """A table of a bundle's file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return pd.read_parquet(io.BytesIO(archive.read(f"{name}.parquet")))


def with_members(path: Path, changed: dict[str, bytes]) -> bytes:
    """A bundle's file with other members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(buffer, "w") as other:
        for name in archive.namelist():
            other.writestr(name, changed.get(name) or archive.read(name))
    return buffer.getvalue()


def as_parquet(table: pd.DataFrame) -> bytes:
    return table.to_parquet(index=False)


@pytest.fixture
def saved(made: ModelBundle, tmp_path: Path) -> Path:
    made.save(tmp_path / "model.zip")
    return tmp_path / "model.zip"


@pytest.fixture
def earlier(made: ModelBundle, saved: Path, small_users: pd.DataFrame, small_movies: pd.DataFrame) -> bytes:
    """The file that an earlier release wrote: all columns of the tables, and a feature map of version 2."""
    document = made.feature_map.to_dict()
    document |= {"version": 2, "multivalued": ["genres"]}
    changed = {
        "feature_map.json": json.dumps(document).encode(),
        "users.parquet": as_parquet(made.feature_map.known("user_id", small_users[USERS])),
        "movies.parquet": as_parquet(made.feature_map.known("movie_id", small_movies[MOVIES])),
    }
    return with_members(saved, changed)


@pytest.fixture(scope="module")
def expected(made: ModelBundle, small_users: pd.DataFrame, small_movies: pd.DataFrame) -> np.ndarray:
    """Logits of all pairs, [users, movies], from the indices of all their features."""
    feature_map, scorer = made.feature_map, Scorer(made)
    users, movies = feature_map.known("user_id", small_users), feature_map.known("movie_id", small_movies)
    moment = {"rating_year": MOMENT[0], "rating_month": MOMENT[1], "rating_decade": "2000s"}
    indices = feature_map.transform(users.merge(movies, how="cross").assign(**moment)).to_numpy()
    assert (indices[:, feature_map.names.index("zip")] > 0).any()
    return scorer.forward.logits(indices).reshape(len(users), len(movies))


def test_tables_hold_the_keys_what_the_network_embeds_and_what_is_shown(kind: str, saved: Path) -> None:
    data = saved.read_bytes()
    users = ["user_id"] if kind == "signals" else ["user_id", "gender"]
    assert table_of(data, "users").columns.tolist() == users
    assert table_of(data, "movies").columns.tolist() == ["movie_id", USED[kind][0], "title", "genres"]


def test_scores_of_all_pairs_are_those_of_all_features(made: ModelBundle, saved: Path, expected: np.ndarray) -> None:
    everyone = np.arange(len(made.users))
    assert np.ptp(expected) > 0.1
    for bundle in (made, ModelBundle.load(saved)):
        np.testing.assert_array_equal(Scorer(bundle).catalogue(*MOMENT).rows(everyone), expected)


def test_a_file_of_an_earlier_release_scores_the_same_and_loses_what_is_not_used(
    made: ModelBundle, earlier: bytes, expected: np.ndarray
) -> None:
    assert table_of(earlier, "users").columns.tolist() == USERS
    read = ModelBundle.from_bytes(earlier, "model.zip")
    np.testing.assert_array_equal(Scorer(read).catalogue(*MOMENT).rows(np.arange(len(read.users))), expected)
    pd.testing.assert_frame_equal(read.users, made.users)
    pd.testing.assert_frame_equal(read.movies, made.movies)
    assert read.feature_map.fields == made.feature_map.fields


def test_pairs_and_full_rows_score_the_same(
    made: ModelBundle, expected: np.ndarray, small_interactions: pd.DataFrame
) -> None:
    scorer = Scorer(made)
    rows = small_interactions.sample(40, random_state=1).assign(rating_year=MOMENT[0], rating_month=MOMENT[1])
    pairs = rows[["user_id", "movie_id"]].assign(year=MOMENT[0], month=MOMENT[1])
    at = scorer.indices("user_id", rows["user_id"]), scorer.indices("movie_id", rows["movie_id"])
    for given in (pairs, rows):
        found = scorer.score_rows(given)
        np.testing.assert_allclose(found, expit(expected[at]), rtol=1e-6)


@pytest.mark.parametrize("columns", [["user_id", "gender", "zip"], ["user_id", "gender", "age"], ["user_id", "zip"]])
def test_a_table_with_other_columns_is_refused(
    columns: list[str], made: ModelBundle, saved: Path, earlier: bytes
) -> None:
    table = table_of(earlier, "users")[columns]
    with pytest.raises(DataError, match=r"users\.parquet: found the columns .*; expected (gender, )?user_id$"):
        ModelBundle.from_bytes(with_members(saved, {"users.parquet": as_parquet(table)}), "model.zip")


def test_a_network_of_all_features_has_all_columns(bundle: ModelBundle) -> None:
    assert set(bundle.users) == set(USERS)
    assert set(bundle.movies) == set(MOVIES)


def test_visitors_are_compared_by_what_the_model_does_not_hold(
    made: ModelBundle, small_users: pd.DataFrame, small_interactions: pd.DataFrame
) -> None:
    new = small_users.head(1).assign(user_id=9999, age=77)  # the model does not know this user
    users = pd.concat([new, small_users.sample(frac=1, random_state=1)])
    visitors = VisitorRecommender(Recommender(Scorer(made), small_interactions), users, small_interactions)
    assert "age" not in made.users
    aged = small_users.loc[small_users["age"] == 25, "user_id"].sort_values().tolist()
    found = visitors.companions(Visitor({"age": 25}), len(aged))
    assert made.users["user_id"].iloc[found].tolist() == aged
    with pytest.raises(DataError, match=r"age 77; expected one of 1, 18, 25, 35, 45, 50"):
        visitors.companions(Visitor({"age": 77}))


def test_a_selection_of_a_feature_that_is_not_there_is_refused(small_feature_map: FeatureMap, tmp_path: Path) -> None:
    network = network_of("fields", small_feature_map)
    config = network.get_config()
    [layer] = [each for each in config["layers"] if each["name"] == "fields"]
    layer["config"]["positions"] = (3, 5, 14)
    crafted = type(network).from_config(config)
    ModelBundle(crafted, small_feature_map, pd.DataFrame(), pd.DataFrame()).save(tmp_path / "model.zip")
    with pytest.raises(DataError, match=r"network\.keras: selects the feature at position 14; expected at most 13"):
        ModelBundle.load(tmp_path / "model.zip")
