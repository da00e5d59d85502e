"""The compiled step compared with the plain Keras layers, which define what it computes."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from ml import schema
from ml.models.autoint import Inputs, Multivalued, Token, build_model
from ml.models.config import ARCHITECTURES
from ml.training.checkpoint import Checkpoint
from ml.training.compiled_network import CompiledTraining, obstacle
from ml.training.config import TrainingConfig
from ml.training.reports import EpochReport
from ml.training.trainer import fitted_rows, learner_of, train

SIZES = (11, 7, 2, 3, 1)
MEMBERSHIP = np.eye(7, 4, dtype=np.float32)
PLAIN = Inputs(SIZES, tokens=tuple(Token(f"feature_{number}", "user") for number in range(len(SIZES))))
EVERYTHING = Inputs(SIZES, (1, 2, 4), (0.5, 2.0), (1.0, 3.0), (Multivalued("genres", 1, MEMBERSHIP),))
SMALL = {"embed_dim": 4, "num_layers": 2, "num_heads": 2, "head_dim": 4}
CONFIG = TrainingConfig(epochs=3, batch_size=100, learning_rate=3e-3, seed=2)


@contextmanager
def numbers_of(policy: str) -> Iterator[None]:
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy("float32")


def network_of(inputs: Inputs = PLAIN, deep: bool = False, **settings: Any) -> keras.Model:
    """A network with random weights of a size at which attention and ReLUs matter."""
    name = "autoint_mlp" if deep else "autoint_cin" if "feature_maps" in settings else "autoint"
    network = build_model(name, inputs, ARCHITECTURES[name](**{**SMALL, **settings}), seed=1)
    rng = np.random.default_rng(5)
    for variable in network.trainable_variables:
        fan_in = 1 if "embedding" in variable.path else variable.shape[0]
        variable.assign(rng.normal(0, fan_in**-0.5, variable.shape))
    return network


def batch_of(rows: int, inputs: Inputs = PLAIN) -> tuple[Any, np.ndarray]:
    """Random inputs, as Keras takes them, and labels."""
    rng = np.random.default_rng(rows)
    arrays = [np.column_stack([rng.integers(0, size, rows) for size in inputs.field_dims]).astype(np.int32)]
    if inputs.centres:
        arrays.append(rng.normal(0, 1, (rows, len(inputs.centres))).astype(np.float32))
    return arrays if inputs.centres else arrays[0], rng.integers(0, 2, rows).astype(np.float32)


def compiled_gradients(network: keras.Model, arrays: Any, labels: np.ndarray) -> tuple[float, list[np.ndarray]]:
    learner = CompiledTraining(network)
    with tf.GradientTape() as tape:
        loss = learner.compute_loss(arrays, labels, learner(arrays, training=True), training=True)
    return float(loss), as_arrays(tape.gradient(loss, network.trainable_weights))


def plain_gradients(network: keras.Model, arrays: Any, labels: np.ndarray) -> tuple[float, list[np.ndarray]]:
    with tf.GradientTape() as tape:
        entropy = keras.losses.BinaryCrossentropy(dtype=network.dtype)(labels[:, None], network(arrays, training=True))
        loss = entropy + sum(network.losses)
    return float(loss), as_arrays(tape.gradient(loss, network.trainable_weights))


def as_arrays(gradients: list[Any]) -> list[np.ndarray]:
    return [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]


def assert_equal(
    found: tuple[float, list[np.ndarray]], expected: tuple[float, list[np.ndarray]], names: list[str]
) -> None:
    assert found[0] == pytest.approx(expected[0], abs=1e-6)
    for name, own, reference in zip(names, found[1], expected[1], strict=True):
        assert np.abs(own - reference).max() <= 1e-5 * np.abs(reference).max() + 1e-7, name


def paths(network: keras.Model) -> list[str]:
    return [weight.path for weight in network.trainable_weights]


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({}, 100),
        ({"num_layers": 1, "num_heads": 1}, 16),
        ({"num_layers": 3, "head_dim": 16, "embed_dim": 16}, 33),
        ({"num_heads": 3, "head_dim": 5, "embed_dim": 7, "scaled": True}, 1),
        ({"use_residual": False}, 15),
        ({"l2_embedding": 0.01}, 17),
        ({"head_dim": 64, "num_heads": 4}, 20),  # kernels in several parts
        ({"feature_maps": [3, 2], "l2_interaction": 0.01}, 40),
        ({"deep": True, "dropout": 0.0, "l2_deep": 0.01, "batch_normalization": True}, 50),
    ],
)
def test_loss_and_gradients_are_those_of_float64(settings: dict[str, Any], rows: int) -> None:
    network = network_of(**settings)
    with numbers_of("float64"):
        reference = network_of(**settings)
    reference.set_weights(network.get_weights())
    arrays, labels = batch_of(rows)
    expected = plain_gradients(reference, arrays, labels.astype(np.float64))
    assert_equal(compiled_gradients(network, arrays, labels), expected, paths(network))


@pytest.mark.parametrize("deep", [False, True])
def test_numeric_and_multivalued_features_and_dropout(deep: bool) -> None:
    """Against the plain layers, with the same random numbers."""
    arrays, labels = batch_of(70, EVERYTHING)
    networks = [network_of(EVERYTHING, deep, embedding_dropout=0.3) for _ in range(2)]
    expected = plain_gradients(networks[0], arrays, labels)
    assert_equal(compiled_gradients(networks[1], arrays, labels), expected, paths(networks[0]))


def test_the_gradient_of_a_table_has_a_row_for_each_index() -> None:
    network = network_of()
    arrays, labels = batch_of(9)
    learner = CompiledTraining(network)
    with tf.GradientTape() as tape:
        loss = learner.compute_loss(arrays, labels, learner(arrays, training=True), training=True)
    gradient = tape.gradient(loss, network.get_layer("embedding").table.value)
    assert isinstance(gradient, tf.IndexedSlices)
    assert gradient.values.shape == (9 * len(SIZES), 4)


def test_the_gradient_of_a_multiple_of_the_loss() -> None:
    network = network_of()
    arrays, labels = batch_of(9)
    learner = CompiledTraining(network)
    with tf.GradientTape() as tape:
        loss = 3 * learner.compute_loss(arrays, labels, learner(arrays, training=True), training=True)
    found = as_arrays(tape.gradient(loss, network.trainable_weights))
    value, gradients = compiled_gradients(network, arrays, labels)
    assert_equal((float(loss), found), (3 * value, [3 * gradient for gradient in gradients]), paths(network))


def test_a_training_that_diverges_shows() -> None:
    network = network_of()
    network.get_layer("embedding").table.assign(np.full((sum(SIZES), 4), np.nan))
    loss, _ = compiled_gradients(network, *batch_of(20))
    assert np.isnan(loss)


def test_weights_and_predictions_are_the_network_s() -> None:
    network = network_of(deep=True)
    learner = CompiledTraining(network)
    assert [id(weight) for weight in learner.weights] == [id(weight) for weight in network.weights]
    arrays, _ = batch_of(5)
    np.testing.assert_array_equal(learner(arrays), network(arrays))


@pytest.mark.parametrize(
    ("inputs", "settings"),
    [
        (PLAIN, {"l2_embedding": 0.01}),
        (EVERYTHING, {"deep": True, "embedding_dropout": 0.3, "dropout": 0.4, "batch_normalization": True}),
    ],
)
def test_the_validation_loss_is_that_of_the_layers(inputs: Inputs, settings: dict[str, Any]) -> None:
    """Without dropout, and with the penalties. The last batch is smaller, and counts by its rows."""
    network = network_of(inputs, **settings)
    arrays, labels = batch_of(70, inputs)
    probabilities = np.asarray(network(arrays, training=False), np.float64)[:, 0]
    expected = -np.mean(np.log(np.where(labels == 1, probabilities, 1 - probabilities))) + float(sum(network.losses))
    learner = learner_of(network, 1e-3)
    before = network.get_weights()
    found = learner.evaluate(arrays, labels, batch_size=32, verbose=0, return_dict=True)
    assert found == {"loss": pytest.approx(expected, abs=1e-6)}
    for own, earlier in zip(network.get_weights(), before, strict=True):
        np.testing.assert_array_equal(own, earlier)


def test_weighted_rows_are_refused() -> None:
    learner = CompiledTraining(network_of())
    arrays, labels = batch_of(5)
    with pytest.raises(ValueError, match="sample_weight"):
        learner.compute_loss(arrays, labels, learner(arrays, training=True), labels, training=True)
    with pytest.raises(ValueError, match="sample_weight"):
        learner.compute_loss(arrays, labels, learner(arrays, training=True), labels, training=False)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"projection_relu": True}, "layer interacting_1 has projection_relu"),
        ({"attention_dropout": 0.1, "layer_norm": True}, "layer interacting_1 has attention_dropout and layer_norm"),
        ({"attention": "entmax", "layer_norm": True}, "layer interacting_1 has layer_norm and entmax"),
        ({"local_layers": 1}, "layer interacting_1 has sides"),
        ({"scaled": True, "use_residual": False, "embedding_dropout": 0.2, "l2_embedding": 0.1}, None),
    ],
)
def test_what_is_not_compiled(settings: dict[str, Any], reason: str | None) -> None:
    assert obstacle(network_of(**settings)) == reason


def test_other_numbers_and_architectures_are_not_compiled() -> None:
    with numbers_of("float64"):
        assert obstacle(network_of()) == "layer codes computes in float64"
    other = network_of()
    other.name = "autoint_with_gates"
    assert obstacle(other) == "its architecture is autoint_with_gates"


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """1,150 rows: the last of the 11 batches of an epoch has 35."""
    codes, _ = batch_of(1150)
    rows = pd.DataFrame(codes, columns=list(schema.FIELD_NAMES[: len(SIZES)]))
    rows[schema.LABEL] = (codes[:, 0] + codes[:, 1] > 8).astype(int)
    return rows


def fresh(deep: bool) -> keras.Model:
    name = "autoint_mlp" if deep else "autoint"
    return build_model(name, PLAIN, ARCHITECTURES[name](**SMALL), seed=1)


def fit_plainly(network: keras.Model, rows: pd.DataFrame) -> list[float]:
    """Train by Keras's own steps, in Keras's order of the rows; return the validation losses."""
    keras.utils.set_random_seed(CONFIG.seed)
    codes, labels = rows.iloc[:, :-1].to_numpy("int32"), rows[schema.LABEL].to_numpy("float32")
    fitted = fitted_rows(len(rows), CONFIG)
    network.compile(optimizer=keras.optimizers.Adam(CONFIG.learning_rate), loss="binary_crossentropy")
    validation = (codes[fitted:], labels[fitted:])
    sizes = {"batch_size": CONFIG.batch_size, "epochs": CONFIG.epochs}
    return network.fit(codes[:fitted], labels[:fitted], validation_data=validation, verbose=0, **sizes).history[
        "val_loss"
    ]


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the trainer has logged; TensorFlow logs too, depending on what else was trained in the process."""
    return [record.getMessage() for record in caplog.records if record.name == "ml.training.trainer"]


@pytest.mark.parametrize("deep", [False, True])
def test_the_curve_is_that_of_keras_s_steps(
    deep: bool, rows: pd.DataFrame, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain, network = fresh(deep), fresh(deep)
    expected = fit_plainly(plain, rows)
    with caplog.at_level(logging.INFO, "ml.training.trainer"):
        curve = [report.val_loss for report in train(network, rows, CONFIG)]
    assert told(caplog) == [f"{network.name}: trained by compiled steps"]
    np.testing.assert_allclose(curve, expected, rtol=0, atol=1e-4)
    assert curve[-1] < curve[0]
    assert saved(network, tmp_path / "ours.keras") == saved(plain, tmp_path / "plain.keras")


def saved(network: keras.Model, path: Path) -> tuple[str, list[tuple[str, Any]]]:
    """A saved network's configuration, and the names and shapes of its arrays."""
    network.save(path)
    arrays: list[tuple[str, Any]] = []
    weights = path.with_suffix(".weights.h5")
    network.save_weights(weights)
    with h5py.File(weights) as file:
        file.visititems(
            lambda name, found: arrays.append((name, found.shape)) if isinstance(found, h5py.Dataset) else None
        )
    return re.sub(r'"adam(_\d+)?"', '"adam"', keras.saving.load_model(path).to_json()), arrays


@pytest.mark.parametrize("deep", [False, True])
def test_the_same_training_ends_with_the_same_weights_and_so_does_a_resumed_one(
    deep: bool, rows: pd.DataFrame, tmp_path: Path
) -> None:
    first, again, resumed = fresh(deep), fresh(deep), fresh(deep)
    train(first, rows, CONFIG)
    train(again, rows, CONFIG)

    def interrupt(report: EpochReport) -> None:
        if report.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(fresh(deep), rows, CONFIG, interrupt, checkpoint=Checkpoint(tmp_path))
    train(resumed, rows, CONFIG, checkpoint=Checkpoint(tmp_path))
    for network in (again, resumed):
        for own, expected in zip(network.get_weights(), first.get_weights(), strict=True):
            np.testing.assert_array_equal(own, expected)


def test_other_networks_are_trained_by_keras_s_steps(rows: pd.DataFrame, caplog: pytest.LogCaptureFixture) -> None:
    network = build_model("autoint", PLAIN, ARCHITECTURES["autoint"](**SMALL, layer_norm=True), seed=1)
    with caplog.at_level(logging.INFO, "ml.training.trainer"):
        train(network, rows, CONFIG.model_copy(update={"epochs": 1}))
    assert told(caplog) == ["autoint: trained by Keras's own steps, since layer interacting_1 has layer_norm"]
