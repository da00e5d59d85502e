"""A model with features of the rating's moment is asked with ids, year and month alone."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from ml import schema
from ml.errors import DataError
from ml.features.feature_map import FeatureMap
from ml.features.moments import VALUES, complete_rows, map_with_moments, with_first_times, with_moments
from ml.features.splits import split_interactions
from ml.inference.earlier_model import held_out_lists_of, score_known
from ml.inference.explanations import Explanations
from ml.inference.held_out import held_out_lists
from ml.inference.recommend import Recommender
from ml.inference.scorer import Scorer
from ml.inference.tensorflow_export import export_bundle
from ml.inference.visitors import Visitor, VisitorRecommender
from ml.models.autoint import Inputs, build_model
from ml.models.bundle import ModelBundle
from ml.models.config import AutoIntConfig
from tests.feature_maps import encode_interactions
from tests.ml.inference.test_used_features import table_of, with_members
from tests.ml.models.reference import randomize

MOMENT = (2000, 12)
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def encoded(small_interactions: pd.DataFrame, small_feature_map: FeatureMap) -> pd.DataFrame:
    return encode_interactions(small_interactions, small_feature_map)


@pytest.fixture(scope="module")
def train(encoded: pd.DataFrame) -> pd.DataFrame:
    return with_moments(split_interactions(encoded)[0], encoded, schema.MOMENT_NAMES)


@pytest.fixture(scope="module")
def users(small_users: pd.DataFrame, train: pd.DataFrame, small_feature_map: FeatureMap) -> pd.DataFrame:
    return with_first_times(small_users, train, small_feature_map)


@pytest.fixture(scope="module")
def scorer(
    train: pd.DataFrame,
    users: pd.DataFrame,
    small_feature_map: FeatureMap,
    small_movies: pd.DataFrame,
    tmp_path_factory: pytest.TempPathFactory,
) -> Scorer:
    """Of a saved and loaded bundle; its network's random weights make every feature matter."""
    feature_map = map_with_moments(small_feature_map, train, schema.MOMENT_NAMES)
    config = AutoIntConfig(embed_dim=4, num_layers=1, num_heads=2, head_dim=2)
    network = build_model("autoint", Inputs(feature_map.field_dims), config, seed=1)
    randomize(network, scale=0.5)
    path = tmp_path_factory.mktemp("moments") / "bundle.zip"
    ModelBundle.of(network, feature_map, users, small_movies).save(path)
    return Scorer(ModelBundle.load(path))


def codes_of(scorer: Scorer, rows: pd.DataFrame, users: pd.DataFrame) -> np.ndarray:
    """Indices of pairs at MOMENT, one feature after the other."""
    feature_map, (year, month) = scorer.bundle.feature_map, MOMENT
    middle = int(datetime(year, month, 15, tzinfo=UTC).timestamp())
    first = rows["user_id"].map(users.set_index("user_id")["first_timestamp"])
    days = [max((middle - time) // 86400, 0) for time in first]
    values = {
        "rating_year": year,
        "rating_month": month,
        "rating_decade": "2000s",
        "rating_hour": feature_map["rating_hour"].assumed,
        "rating_weekday": feature_map["rating_weekday"].assumed,
        "days_since_first": [max(least for least in VALUES["days_since_first"] if least <= each) for each in days],
        "session_position": 0,
    }
    return feature_map.transform(rows.assign(**values)).to_numpy()


def probabilities(scorer: Scorer, codes: np.ndarray) -> np.ndarray:
    return np.asarray(scorer.bundle.network(codes))[:, 0]


def test_pairs_take_what_is_assumed_and_the_user_s_days(
    scorer: Scorer, small_interactions: pd.DataFrame, users: pd.DataFrame
) -> None:
    rows = small_interactions.sample(60, random_state=1)
    codes = codes_of(scorer, rows, users)
    assert len(np.unique(codes[:, 16])) > 3  # users of different ages
    pairs = rows[["user_id", "movie_id"]].assign(year=MOMENT[0], month=MOMENT[1])
    np.testing.assert_allclose(scorer.score_rows(pairs), probabilities(scorer, codes), **TOLERANCE)
    year, month = (pd.Series([value]) for value in MOMENT)
    at_once = scorer.pair_indices(
        *(scorer.indices(name, rows[name]) for name in ("user_id", "movie_id")), scorer.context_indices(year, month)
    )
    assert at_once.tolist() == codes.tolist()


def test_an_exported_model_gives_the_same_scores(
    scorer: Scorer, small_interactions: pd.DataFrame, tmp_path: Path
) -> None:
    export_bundle(scorer.bundle, tmp_path / "1")
    pairs = small_interactions[["user_id", "movie_id"]].sample(60, random_state=2)
    pairs = pairs.assign(year=[2000, 2001, 2002] * 20, month=[*range(1, 13)] * 5)
    exported = tf.saved_model.load(str(tmp_path / "1")).signatures["serving_default"]
    inputs = {name: tf.constant(values.to_numpy(), tf.int64) for name, values in pairs.items()}
    found = exported(**inputs)["probability"].numpy()
    np.testing.assert_allclose(found, scorer.score_pairs(pairs), **TOLERANCE)


def test_a_user_who_came_later_is_new(scorer: Scorer, users: pd.DataFrame) -> None:
    late = users.loc[users["first_timestamp"].idxmax()]
    context = scorer.context_indices(pd.Series([2000]), pd.Series([1]))
    assert datetime.fromtimestamp(late["first_timestamp"], UTC) > datetime(2000, 1, 15, tzinfo=UTC)
    indices = scorer.pair_indices(scorer.indices("user_id", [late["user_id"]]), np.array([0]), context)
    assert indices[0, 16] == 0


def test_encoded_and_full_rows_take_their_own_moments(
    scorer: Scorer, encoded: pd.DataFrame, small_interactions: pd.DataFrame
) -> None:
    test = with_moments(split_interactions(encoded)[1], encoded, schema.MOMENT_NAMES)
    expected = probabilities(scorer, test[list(scorer.bundle.feature_map.names)].to_numpy())
    np.testing.assert_allclose(scorer.score_encoded(test), expected, **TOLERANCE)
    rows = complete_rows(small_interactions, scorer.bundle.feature_map).iloc[test["row"]]
    known, scores = score_known(scorer, rows)
    assert known.all()
    np.testing.assert_allclose(scores, expected, **TOLERANCE)


def test_lists_are_those_of_brute_force_and_of_one_user(scorer: Scorer, small_interactions: pd.DataFrame) -> None:
    recommender = Recommender(scorer, small_interactions)
    [(lists, _)] = recommender.recommend_all([MOMENT])
    [(exact, _)] = recommender.recommend_all([MOMENT], method="brute_force")
    pd.testing.assert_frame_equal(lists, exact)
    user = int(lists["user_id"].iloc[-1])
    of_user = lists[lists["user_id"] == user].reset_index(drop=True)
    pd.testing.assert_frame_equal(recommender.recommend(user, *MOMENT), of_user, rtol=1e-4)
    pairs = of_user[["user_id", "movie_id"]].assign(year=MOMENT[0], month=MOMENT[1])
    np.testing.assert_allclose(of_user["score"], scorer.score_pairs(pairs), **TOLERANCE)


def test_held_out_lists_explanations_and_visitors_need_no_moment(
    scorer: Scorer, train: pd.DataFrame, small_users: pd.DataFrame, small_interactions: pd.DataFrame
) -> None:
    lists, _ = held_out_lists(scorer, train)
    assert lists.groupby("user_id").size().eq(10).all()
    raw = complete_rows(small_interactions, scorer.bundle.feature_map).iloc[train["row"]]
    pd.testing.assert_frame_equal(held_out_lists_of(scorer, raw, scorer.bundle.feature_map), lists)
    assert Explanations.of(scorer).personal_share > 0
    visitors = VisitorRecommender(Recommender(scorer, small_interactions), small_users, small_interactions)
    liked = tuple(int(movie) for movie in scorer.movie_ids[:2])
    assert len(visitors.recommend(Visitor(liked=liked), *MOMENT)) == 10


def test_a_bundle_has_first_times_only_for_the_feature_of_days(
    scorer: Scorer, train: pd.DataFrame, users: pd.DataFrame, small_feature_map: FeatureMap, small_movies: pd.DataFrame
) -> None:
    assert "first_timestamp" in scorer.bundle.users
    feature_map = map_with_moments(small_feature_map, train, ("rating_hour", "session_position"))
    config = AutoIntConfig(embed_dim=4, num_layers=1, num_heads=2, head_dim=2)
    network = build_model("autoint", Inputs(feature_map.field_dims), config, seed=1)
    other = ModelBundle.of(network, feature_map, users, small_movies)
    assert "first_timestamp" not in other.users
    assert Scorer(other).context_indices(pd.Series([2002]), pd.Series([11])).shape == (1, 5)


@pytest.mark.parametrize("wrong", ["texts", "missing"])
def test_a_bundle_with_other_first_times_is_refused(scorer: Scorer, tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "bundle.zip"
    scorer.bundle.save(path)
    table = table_of(path.read_bytes(), "users")
    texts = table.assign(first_timestamp=table["first_timestamp"].astype(str))
    changed = texts if wrong == "texts" else table.drop(columns="first_timestamp")
    data = with_members(path, {"users.parquet": changed.to_parquet(index=False)})
    with pytest.raises(DataError, match="first_timestamp"):
        ModelBundle.from_bytes(data, "it")
