"""The multi-task network from the builder to raw ids."""

from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest

from ml.features.collaborative_tables import CollaborativeTables
from ml.inference.engine.autoint_forward import AutoIntForward
from ml.inference.engine.forward import forward_of
from ml.inference.scorer import Scorer
from ml.models.autoint import Inputs, build_model, inner_network, like_network, rating_network, with_collaborative
from ml.models.bundle import ModelBundle
from ml.models.config import AutoIntMultitaskConfig
from tests.ml.models.reference import forward, randomize

DIMS = (5, 4, 3)
CONFIG = AutoIntMultitaskConfig(embed_dim=4, num_layers=2, num_heads=2, head_dim=3)
CODES = np.random.default_rng(0).integers(0, DIMS, size=(9, len(DIMS)), dtype=np.int32)


def small_network() -> keras.Model:
    return build_model("autoint_multitask", Inputs(DIMS, rating_centre=3.5, rating_scale=1.25), CONFIG, 1)


def rating_of(network: keras.Model) -> keras.Model:
    found = rating_network(network)
    assert found is not None
    return found


def test_both_outputs_equal_plain_numpy() -> None:
    network = small_network()
    weights = randomize(network)
    like, rating = network(CODES)
    logit = forward(weights, DIMS, CONFIG, CODES)
    np.testing.assert_allclose(like[:, 0], 1 / (1 + np.exp(-logit)), rtol=1e-4)
    # The rating is the same arithmetic with the other output kernel, then scaled.
    standardized = forward(weights | {"logit/kernel": weights["standardized_rating/kernel"]}, DIMS, CONFIG, CODES)
    np.testing.assert_allclose(rating[:, 0], 3.5 + 1.25 * standardized, rtol=1e-4)


def test_each_part_is_a_network_of_the_same_weights() -> None:
    network = small_network()
    randomize(network)
    like, rating = network(CODES)
    np.testing.assert_array_equal(like_network(network)(CODES), like)
    np.testing.assert_array_equal(rating_of(network)(CODES), rating)


def test_likes_are_scored_by_compiled_loops() -> None:
    network = small_network()
    randomize(network, scale=0.5)
    found = forward_of(network)
    assert isinstance(found, AutoIntForward)
    like, _ = network(CODES)
    np.testing.assert_allclose(1 / (1 + np.exp(-found.logits(CODES))), like[:, 0], rtol=1e-4)


def test_with_collaborative_features() -> None:
    inputs = Inputs(DIMS, centres=[0.5, 1.0], scales=[2.0, 0.5], rating_centre=3.0)
    inner = build_model("autoint_multitask", inputs, CONFIG, 1)
    randomize(inner, scale=0.5)
    users, movies = (np.random.default_rng(1).normal(size=(size, 3)).astype(np.float32) for size in DIMS[:2])
    network = with_collaborative(inner, CollaborativeTables(("a", "b"), (1, 2), users, movies), (0, 1))
    assert inner_network(like_network(network)) is inner
    products = users[CODES[:, 0]] * movies[CODES[:, 1]]
    numbers = np.stack([products[:, 0], products[:, 1:].sum(axis=1)], axis=1)
    like, rating = inner([CODES, numbers])
    np.testing.assert_allclose(rating_of(network)(CODES), rating, rtol=1e-4)
    found = forward_of(network)
    assert isinstance(found, AutoIntForward)
    np.testing.assert_allclose(1 / (1 + np.exp(-found.logits(CODES))), like[:, 0], rtol=1e-4)


@pytest.fixture
def multitask_bundle(bundle: ModelBundle) -> ModelBundle:
    inputs = Inputs(bundle.feature_map.field_dims, rating_centre=3.5)
    network = build_model("autoint_multitask", inputs, CONFIG, 1)
    randomize(network, scale=0.3)
    return ModelBundle.of(network, bundle.feature_map, bundle.users, bundle.movies)


def test_a_saved_bundle_predicts_ratings_of_raw_ids(
    multitask_bundle: ModelBundle, small_interactions: pd.DataFrame, tmp_path: Path
) -> None:
    path = tmp_path / "bundle.zip"
    multitask_bundle.save(path)
    scorer = Scorer(ModelBundle.load(path))
    rows = small_interactions.iloc[:20]
    codes = multitask_bundle.feature_map.transform(rows).to_numpy(np.int32)
    like, rating = multitask_bundle.network(codes)
    np.testing.assert_allclose(scorer.score_rows(rows), like[:, 0], rtol=1e-4)
    np.testing.assert_allclose(scorer.predict_ratings(rows), rating[:, 0], rtol=1e-4)


def test_other_networks_predict_no_ratings(bundle: ModelBundle, small_interactions: pd.DataFrame) -> None:
    assert Scorer(bundle).predict_ratings(small_interactions.iloc[:2]) is None
