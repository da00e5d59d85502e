import keras
import numpy as np
import pytest
import tensorflow as tf

from ml.models.attention import entmax, same_side, softmax


@pytest.mark.parametrize(
    ("scores", "weights"),
    [
        # Roots of the weights .8 and .6: twice their difference is that of the scores. Further scores below
        # -1.2, twice the threshold of -.6, have no weight.
        ([0.4, 0.0], [0.64, 0.36]),
        ([0.0, -1.3, 0.4, -50.0], [0.36, 0.0, 0.64, 0.0]),
        ([10.4, 10.0, 8.7], [0.64, 0.36, 0.0]),
        ([2 / 3, 2 / 3, 0.0], [4 / 9, 4 / 9, 1 / 9]),  # roots 2/3, 2/3 and 1/3
        ([2.0, 0.0], [1.0, 0.0]),  # a difference of 2 or more: one alone
        ([7.0], [1.0]),
        ([0.4, -np.inf, 0.0], [0.64, 0.0, 0.36]),
        ([1e30, -1e30], [1.0, 0.0]),
    ],
)
def test_entmax_hand_computed(scores: list[float], weights: list[float]) -> None:
    found = np.asarray(entmax(np.array([scores], np.float32)))
    np.testing.assert_allclose(found, [weights], atol=1e-6)
    assert (found[0] == 0).tolist() == [weight == 0 for weight in weights]


@pytest.mark.parametrize("count", [2, 3, 14, 100, 1000])
def test_entmax_of_equal_scores_is_equal(count: int) -> None:
    """The worst case of Newton's method."""
    np.testing.assert_allclose(entmax(np.zeros((1, count), np.float32)), 1 / count, rtol=1e-4)


@pytest.mark.parametrize("scale", [0.1, 1, 3, 30])
@pytest.mark.parametrize("count", [5, 14, 60])
def test_weights_have_sum_1(count: int, scale: float) -> None:
    scores = np.random.default_rng(0).normal(0, scale, (500, 2, count)).astype(np.float32)
    for normalize in (entmax, softmax):
        weights = np.asarray(normalize(scores))
        np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)
        assert (weights.argmax(axis=-1) == scores.argmax(axis=-1)).all()


def test_gradient_of_entmax_hand_computed() -> None:
    """Roots r of the weights: row i, column j of the Jacobian is ``r_i [i = j] - r_i r_j / sum(r)``."""
    scores = tf.constant([0.4, 0.0, -3.0, -np.inf])
    with tf.GradientTape() as tape:
        tape.watch(scores)
        weights = entmax(scores)
    cross = 0.8 * 0.6 / 1.4
    expected = [[0.8 - 0.64 / 1.4, -cross, 0, 0], [-cross, 0.6 - 0.36 / 1.4, 0, 0], [0] * 4, [0] * 4]
    np.testing.assert_allclose(tape.jacobian(weights, scores), expected, atol=1e-6)


def test_gradient_of_entmax_is_that_of_differences() -> None:
    generator = np.random.default_rng(1)
    scores, direction, upstream = generator.normal(0, 1, (3, 20, 9))
    with tf.GradientTape() as tape:
        given = tf.constant(scores)
        tape.watch(given)
        loss = keras.ops.sum(entmax(given) * upstream)
    step = 1e-6 * direction
    change = np.sum((np.asarray(entmax(scores + step)) - np.asarray(entmax(scores - step))) * upstream, axis=1) / 2e-6
    np.testing.assert_allclose(np.sum(tape.gradient(loss, given) * direction, axis=1), change, rtol=1e-5, atol=1e-7)


def test_same_side() -> None:
    assert same_side(["user", "movie", "user"]).astype(int).tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
