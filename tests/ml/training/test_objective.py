import math

import keras
import numpy as np
import pandas as pd
import pytest

from ml.models.autoint import Inputs, build_model, like_network, rating_network
from ml.models.config import AutoIntMultitaskConfig
from ml.training.batches import EpochOrder
from ml.training.config import TrainingConfig
from ml.training.objective import cross_entropy_with_order, likes, likes_and_ratings, squared_error
from ml.training.trainer import train

ROWS = pd.DataFrame({"label": [1, 0, 0, 1, 0, 0], "rating": [5, 0, 0, 4, 0, 0]})


def test_likes_are_one_target() -> None:
    objective = likes(ROWS)
    assert objective.compile_arguments == {"loss": "binary_crossentropy"}
    assert [each.tolist() for each in objective.targets] == [[1, 0, 0, 1, 0, 0]]


def test_sampled_negatives_have_no_rating() -> None:
    objective = likes_and_ratings(ROWS, AutoIntMultitaskConfig(rating_weight=0.25), scale=2, group=3)
    label, rating = objective.targets
    assert label.tolist() == [1, 0, 0, 1, 0, 0]
    np.testing.assert_array_equal(rating, np.array([5, np.nan, np.nan, 4, np.nan, np.nan], np.float32))
    assert objective.weights == [1.0, 0.25]
    assert objective.group == 3


def test_rows_without_a_rating_add_no_error_and_no_gradient() -> None:
    ratings, predictions = np.array([[5], [np.nan], [3]], np.float32), keras.Variable([[3.0], [7.0], [3.5]])
    loss = squared_error(scale=2)
    np.testing.assert_allclose(loss(ratings, predictions.value), [1, 0, 0.0625])
    import tensorflow as tf

    with tf.GradientTape() as tape:
        total = tf.reduce_sum(loss(ratings, predictions.value))
    # d/dp ((p - r) / 2)^2 = (p - r) / 2
    np.testing.assert_allclose(tape.gradient(total, predictions.value), [[-1], [0], [0.25]])


def test_order_of_a_like_and_its_negatives() -> None:
    log_odds = np.array([2.0, 1.0, -1.0, 0.0, 0.5, 0.0])
    probabilities = (1 / (1 + np.exp(-log_odds)))[:, None].astype(np.float32)
    labels = ROWS["label"].to_numpy(np.float32)[:, None]
    pairs = [(2, 1), (2, -1), (0, 0.5), (0, 0)]
    order = sum(math.log1p(math.exp(negative - like)) for like, negative in pairs) / 4
    own = [
        -math.log(p) if label else -math.log(1 - p) for label, p in zip(labels[:, 0], probabilities[:, 0], strict=True)
    ]
    found = cross_entropy_with_order(weight=0.5, group=3)(labels, probabilities)
    np.testing.assert_allclose(found, np.array(own) + 0.5 * order, rtol=1e-5)


def test_groups_stay_together_in_every_epoch() -> None:
    order = EpochOrder(12, seed=1, group=3)
    order.on_epoch_begin(0)
    first = order.window(0).reshape(-1, 3)
    assert sorted(first[:, 0].tolist()) == [0, 3, 6, 9]
    np.testing.assert_array_equal(first, first[:, :1] + np.arange(3))
    order.on_epoch_begin(1)
    assert order.window(0).tolist() != first.ravel().tolist()


class TestTraining:
    DIMS = (30, 40)

    @pytest.fixture
    def rows(self) -> pd.DataFrame:
        """A like where the indices are both even or both odd; ratings 4 and 2."""
        generator = np.random.default_rng(3)
        codes = generator.integers(0, self.DIMS, size=(1500, 2), dtype=np.int32)
        label = (codes.sum(axis=1) % 2 == 0).astype(np.int8)
        return pd.DataFrame({"user_id": codes[:, 0], "movie_id": codes[:, 1], "label": label, "rating": 2 + 2 * label})

    def test_both_outputs_are_learned_by_one_trunk(self, rows: pd.DataFrame) -> None:
        config = AutoIntMultitaskConfig(embed_dim=8, num_layers=1, head_dim=8, rating_weight=1.0)
        network = build_model("autoint_multitask", Inputs(self.DIMS, rating_centre=3.0, rating_scale=1.0), config, 1)
        _, rating = network(rows[["user_id", "movie_id"]].to_numpy()[:5])
        np.testing.assert_allclose(rating, np.full((5, 1), 3), atol=0.01)  # at first, the mean
        objective = likes_and_ratings(rows, config, scale=1.0, group=1)
        settings = TrainingConfig(epochs=12, batch_size=64, learning_rate=0.01, seed=2)
        reports = train(network, rows, settings, objective=objective)
        assert reports[-1].train_loss < 0.2 < reports[0].train_loss
        codes = rows[["user_id", "movie_id"]].to_numpy()
        ratings = rating_network(network)
        assert ratings is not None
        assert np.mean((np.asarray(like_network(network)(codes))[:, 0] > 0.5) == rows["label"]) > 0.95
        assert np.mean(np.abs(np.asarray(ratings(codes))[:, 0] - rows["rating"])) < 0.3

    def test_validation_rows_are_whole_groups(self, rows: pd.DataFrame) -> None:
        config = AutoIntMultitaskConfig(embed_dim=4, num_layers=1, head_dim=4, pairwise_weight=1.0)
        network = build_model("autoint_multitask", Inputs(self.DIMS), config, 1)
        grouped = rows.iloc[: 1000 // 3 * 3]
        objective = likes_and_ratings(grouped, config, scale=1.0, group=3)
        settings = TrainingConfig(epochs=1, batch_size=64, learning_rate=0.01, validation_share=0.1, seed=2)
        [report] = train(network, grouped, settings, objective=objective)  # else the groups could not be reshaped
        assert np.isfinite([report.train_loss, report.val_loss]).all()


def test_a_network_with_one_output_is_its_own_like_network() -> None:
    network = build_model("autoint", Inputs((3, 4)), AutoIntMultitaskConfig(), 1)
    assert like_network(network) is network
    assert rating_network(network) is None
