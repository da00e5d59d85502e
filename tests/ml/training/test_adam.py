import keras
import numpy as np
import tensorflow as tf

from ml.training.adam import CompiledAdam, hand_over

ROWS = [[2, 0, 2, 2], [1, 2, 1, 1]]  # of each step; row 3 has no gradient


def stepped(optimizer: keras.optimizers.Adam) -> list[np.ndarray]:
    """The table, a dense weight and the optimizer's state after two steps."""
    rng = np.random.default_rng(1)
    table, dense = (keras.Variable(rng.standard_normal(shape).astype(np.float32)) for shape in ((4, 5), (5, 2)))
    optimizer.build([table, dense])
    for rows in ROWS:
        values = rng.standard_normal((len(rows), 5)).astype(np.float32)
        gradient = tf.IndexedSlices(tf.constant(values), tf.constant(rows), (4, 5))
        optimizer.apply([gradient, tf.constant(rng.standard_normal((5, 2)).astype(np.float32))], [table, dense])
    return [np.asarray(variable) for variable in (table, dense, *optimizer.variables)]


def test_the_numbers_are_those_of_keras() -> None:
    ours, keras_s = stepped(CompiledAdam(0.01)), stepped(keras.optimizers.Adam(0.01))
    for own, expected in zip(ours, keras_s, strict=True):
        np.testing.assert_array_equal(own, expected)


def test_squares_are_added_for_each_occurrence() -> None:
    table = keras.Variable(np.zeros((2, 1), np.float32))
    optimizer = CompiledAdam(0.1, beta_1=0.0, beta_2=0.0)
    optimizer.build([table])
    optimizer.apply([tf.IndexedSlices(tf.constant([[3.0], [4.0]]), tf.constant([1, 1]), (2, 1))], [table])
    # 7 of 3 + 4, divided by the root of 9 + 16
    np.testing.assert_allclose(np.asarray(table), [[0.0], [-0.1 * 7 / 5]], rtol=1e-6)


def test_a_model_is_handed_over_with_the_optimizer_s_state() -> None:
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, activation="sigmoid")])
    optimizer = CompiledAdam(keras.optimizers.schedules.CosineDecay(0.01, 10))
    optimizer.build(model.trainable_variables)
    optimizer.apply([tf.ones(variable.shape) for variable in model.trainable_variables], model.trainable_variables)
    hand_over(optimizer, model, "binary_crossentropy")
    assert type(model.optimizer) is keras.optimizers.Adam
    expected = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.01, 10), name=model.optimizer.name)
    assert model.optimizer.get_config() == expected.get_config()
    assert model.optimizer.name.startswith("adam")
    for own, before in zip(model.optimizer.variables, optimizer.variables, strict=True):
        np.testing.assert_array_equal(np.asarray(own), np.asarray(before))
