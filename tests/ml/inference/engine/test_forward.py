from functools import cache
from typing import Any

import keras
import numpy as np
import pytest

from ml.features.collaborative_tables import CollaborativeTables
from ml.inference.engine import autoint_forward
from ml.inference.engine.autoint_forward import AutoIntForward
from ml.inference.engine.forward import forward_of
from ml.inference.engine.keras_forward import KerasForward
from ml.models.autoint import Inputs, Multivalued, Token, build_model, inner_network, with_collaborative
from ml.models.config import AutoIntCINConfig, AutoIntConfig, AutoIntMLPConfig
from ml.models.layers import FieldEmbedding, InteractingLayer

FIELD_DIMS = (30, 20, 4, 7, 3, 12, 1, 5, 6, 4, 2, 7, 9, 25)
CONFIGS = {
    "autoint": ("autoint", AutoIntConfig()),
    "scaled, no residual, three heads": (
        "autoint",
        AutoIntConfig(scaled=True, use_residual=False, num_heads=3, head_dim=8, num_layers=2, embed_dim=5),
    ),
    "one layer": ("autoint", AutoIntConfig(num_layers=1)),
    "heads of six": ("autoint", AutoIntConfig(head_dim=6)),
    "autoint_mlp": ("autoint_mlp", AutoIntMLPConfig()),
    "some fields": ("autoint", AutoIntConfig(num_layers=2, head_dim=8)),
    "signals": ("autoint", AutoIntConfig(num_layers=2, scaled=True, embedding_dropout=0.2)),
    "attention dropout": ("autoint", AutoIntConfig(attention_dropout=0.3)),
    "autoint_cin": ("autoint_cin", AutoIntCINConfig(feature_maps=[5, 3])),
    "deep, normalised": ("autoint_mlp", AutoIntMLPConfig(batch_normalization=True, hidden_units=[8, 5, 3])),
}


def randomized(name: str) -> keras.Model:
    """A network whose weights are all far from zero, so that every part shows in the output."""
    architecture, config = CONFIGS[name]
    inputs = Inputs(FIELD_DIMS)
    if name == "some fields":
        inputs = Inputs(FIELD_DIMS, positions=[8, 0, 5])
    if name == "signals":
        positions = [3, 1, 10, 0, 13, 4, 7, 2, 9, 8, 11]  # with the three numbers, as many tokens as without both
        inputs = Inputs(FIELD_DIMS, positions, centres=[0.5, -1.0, 2.0], scales=[2.0, 1.5, 0.5])
    network = build_model(architecture, inputs, config, seed=1)
    rng = np.random.default_rng(2)
    for weight in network.weights:
        positive = "variance" in weight.path
        if weight.dtype.startswith("float"):
            weight.assign(rng.uniform(0.5, 2, weight.shape) if positive else rng.normal(0, 0.25, weight.shape))
    if name != "signals":
        return network
    users, movies = (rng.normal(size=(size, 6)).astype(np.float32) for size in FIELD_DIMS[:2])
    return with_collaborative(network, CollaborativeTables(("a", "b", "c"), (3, 1, 2), users, movies), (0, 1))


@cache
def shared(name: str) -> keras.Model:
    """The same network for all tests that do not change it."""
    return randomized(name)


def probabilities(network: keras.Model, codes: np.ndarray) -> np.ndarray:
    """Keras's own, [rows]; without ``predict``, which compiles a function for each network."""
    return np.asarray(network(codes, training=False))[:, 0]


def random_codes(rows: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.stack([rng.integers(0, size, rows) for size in FIELD_DIMS], axis=1).astype(np.int32)


# Each shape is compiled separately, which takes seconds.
_LONG = ("heads of six", "scaled, no residual, three heads", "some fields")
EACH = [pytest.param(name, marks=pytest.mark.slow) if name in _LONG else name for name in CONFIGS]


@pytest.mark.parametrize("name", EACH)
def test_equals_the_network(name: str) -> None:
    network, codes = shared(name), random_codes(500)
    forward = forward_of(network)
    assert isinstance(forward, AutoIntForward)
    expected = probabilities(network, codes)
    assert expected.std() > 0.01
    np.testing.assert_allclose(1 / (1 + np.exp(-forward.logits(codes))), expected, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("rows", [0, 1, 63, 64, 65, 8193])
def test_any_number_of_rows(rows: int, threads: int) -> None:
    forward = AutoIntForward(shared("autoint"), threads)
    codes = random_codes(8193)
    logits = forward.logits(codes[:rows])
    assert (logits.shape, logits.dtype) == ((rows,), np.float32)
    np.testing.assert_allclose(logits, forward.logits(codes)[:rows], rtol=1e-5, atol=1e-5)


def test_large_scores_do_not_overflow() -> None:
    network, codes = randomized("autoint"), random_codes(100)
    network.get_layer("embedding").table.assign(network.get_layer("embedding").table * 20)
    expected = probabilities(network, codes)
    # Scores of hundreds leave float32 fewer digits for the differences that the softmax sees.
    logits = forward_of(network).logits(codes).astype(np.float64)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), expected, atol=1e-3)


OPTIONS = {
    "projection_relu": {"projection_relu": True},
    "layer_norm": {"layer_norm": True},
    "entmax": {"attention": "entmax"},
    "local": {"local_layers": 1},
    "multivalued": {},
}


@pytest.mark.parametrize("option", OPTIONS)
def test_networks_with_other_parts_are_run_by_keras(option: str) -> None:
    rng = np.random.default_rng(2)
    genres = Multivalued("genres", 1, rng.dirichlet(np.ones(3), FIELD_DIMS[1]).astype(np.float32))
    config = AutoIntConfig(num_layers=2, **OPTIONS[option])
    tokens = tuple(Token(str(field), "movie" if field in COLUMN_FIELDS else "user") for field in range(len(FIELD_DIMS)))
    inputs = Inputs(FIELD_DIMS, multivalued=(genres,) * (option == "multivalued"), tokens=tokens)
    network = build_model("autoint", inputs, config, seed=1)
    for weight in network.trainable_weights:
        weight.assign(rng.normal(0, 0.25, weight.shape))
    row_codes, column_codes, pairs = grid_codes(3, 20)
    expected = probabilities(network, pairs)
    assert not AutoIntForward.supports(network)
    forward = forward_of(network)
    logits = forward.grid(COLUMN_FIELDS, column_codes).logits(row_codes)
    assert expected.std() > 0.01
    np.testing.assert_allclose(1 / (1 + np.exp(-forward.logits(pairs))), expected, atol=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits.ravel())), expected, atol=1e-5)


class Tempered(InteractingLayer):
    """Attention that is half as sharp."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        return super().call(inputs * 0.5, training)


def rearranged(change: str) -> keras.Model:
    """A network of the name and the layers' names of AutoInt that computes something else."""
    codes = keras.Input((len(FIELD_DIMS),), dtype="int32", name="codes")
    hidden = FieldEmbedding(FIELD_DIMS, 4, name="embedding")(codes)
    if change == "activation":
        hidden = keras.layers.Activation("tanh", name="tokens")(hidden)
    if change == "added":
        hidden = keras.layers.Add(name="tokens")([hidden, hidden])
    heads = 4 if change == "heads" else 2
    hidden = (Tempered if change == "subclass" else InteractingLayer)(heads, 2, name="interacting_1")(hidden)
    hidden = InteractingLayer(2, 2, name="interacting_2")(hidden)
    flat = keras.layers.Flatten(name="attention_flat")(hidden)
    if change == "wide":
        flat = keras.layers.Dense(9, name="between")(flat)
    logit = keras.layers.Dense(1, use_bias=change == "bias", name="logit")(flat)
    if change == "after":
        logit = keras.layers.Dense(1, name="after")(logit)
    if change == "relu":
        logit = keras.layers.ReLU(name="after")(logit)
    network = keras.Model(codes, keras.layers.Activation("sigmoid", name="probability")(logit), name="autoint")
    rng = np.random.default_rng(2)
    for weight in network.weights:
        weight.assign(rng.normal(0, 0.5, weight.shape))
    return network


CHANGES = ["activation", "added", "heads", "wide", "bias", "after", "relu"]


@pytest.mark.parametrize("change", CHANGES)
def test_a_network_that_only_looks_like_autoint_is_run_by_keras_and_named(
    change: str, caplog: pytest.LogCaptureFixture
) -> None:
    network = rearranged(change)
    assert AutoIntForward.supports(network)
    assert isinstance(forward_of(network), KerasForward)
    [record] = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("autoint: ")
    assert record.getMessage().endswith("Keras runs it")


def test_a_layer_of_a_class_derived_from_ours_is_run_by_keras() -> None:
    assert isinstance(forward_of(rearranged("subclass")), KerasForward)


def test_a_small_difference_is_more_than_rounding(caplog: pytest.LogCaptureFixture) -> None:
    """Attention that is not divided by the root of 16, but of 15.9."""
    network = randomized("signals")
    layer = inner_network(network).get_layer("interacting_1")
    call = layer.call
    layer.call = lambda inputs, training=None: call(inputs * (16 / 15.9) ** 0.25, training)
    assert isinstance(forward_of(network), KerasForward)
    assert "the fast scorer's log-odds differ by up to" in caplog.text


@pytest.mark.parametrize("name", ["autoint", "signals", "autoint_mlp"])
@pytest.mark.parametrize("scale", [0.0, 1e-4, 10.0])
def test_rounding_is_no_difference(name: str, scale: float, caplog: pytest.LogCaptureFixture) -> None:
    """Neither of untrained networks, whose log-odds are next to nothing, nor of very sure ones."""
    network = randomized(name)
    table = inner_network(network).get_layer("embedding").table
    table.assign(table * scale)
    assert isinstance(forward_of(network), AutoIntForward)
    assert not caplog.records


def test_a_grid_that_differs_from_its_rows_is_given_up_and_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    network = shared("autoint")
    row_codes, column_codes, pairs = grid_codes(3, 20)
    side = autoint_forward._side
    monkeypatch.setattr(autoint_forward, "_side", lambda projected: side(projected * np.float32(1.001)))
    logits = forward_of(network).grid(COLUMN_FIELDS, column_codes).logits(row_codes)
    assert "autoint: log-odds on a grid differ by up to" in caplog.text
    expected = probabilities(network, pairs)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits.ravel())), expected, atol=1e-5)


def test_other_networks_are_run_by_keras() -> None:
    codes = keras.Input((14,), dtype="int32")
    hidden = keras.layers.Rescaling(0.1)(codes)
    other = keras.Model(codes, keras.layers.Dense(1, activation="sigmoid")(hidden))
    forward = forward_of(other)
    assert isinstance(forward, KerasForward)
    rows = random_codes(50)
    expected = probabilities(other, rows)
    np.testing.assert_allclose(1 / (1 + np.exp(-forward.logits(rows))), expected, atol=1e-5)
    assert forward.logits(rows[:0]).shape == (0,)


COLUMN_FIELDS = np.array([1, 2, 8, 13])


def grid_codes(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes of a grid's rows [rows, 10] and columns [columns, 4], and of all its pairs [rows * columns, 14]."""
    row_codes = np.delete(random_codes(rows), COLUMN_FIELDS, axis=1)
    column_codes = random_codes(columns)[::-1, COLUMN_FIELDS]
    pairs = [
        np.insert(row, COLUMN_FIELDS - np.arange(len(COLUMN_FIELDS)), column)
        for row in row_codes
        for column in column_codes
    ]
    return row_codes, column_codes, np.array(pairs, np.int32).reshape(-1, len(FIELD_DIMS))


@pytest.mark.parametrize("forward_class", [AutoIntForward, pytest.param(KerasForward, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", EACH)
def test_a_grid_equals_the_network_on_its_pairs(
    name: str, forward_class: type[AutoIntForward] | type[KerasForward]
) -> None:
    network = shared(name)
    row_codes, column_codes, pairs = grid_codes(7, 70)
    expected = probabilities(network, pairs).reshape(7, 70)
    logits = forward_class(network).grid(COLUMN_FIELDS, column_codes).logits(row_codes)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), expected, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("rows", "columns"), [(0, 40), (1, 1), (1, 100), (3, 31), (3, 32), (3, 33), (40, 5)])
def test_a_grid_of_any_size(rows: int, columns: int, threads: int) -> None:
    forward = AutoIntForward(shared("autoint_mlp"), threads)
    row_codes, column_codes, pairs = grid_codes(rows, columns)
    logits = forward.grid(COLUMN_FIELDS, column_codes).logits(row_codes)
    assert (logits.shape, logits.dtype) == ((rows, columns), np.float32)
    np.testing.assert_allclose(logits.ravel(), forward.logits(pairs), rtol=1e-5, atol=1e-5)


def test_large_scores_on_a_grid_do_not_overflow() -> None:
    network = randomized("autoint")
    network.get_layer("embedding").table.assign(network.get_layer("embedding").table * 20)
    row_codes, column_codes, pairs = grid_codes(5, 40)
    expected = probabilities(network, pairs).reshape(5, 40)
    logits = forward_of(network).grid(COLUMN_FIELDS, column_codes).logits(row_codes).astype(np.float64)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), expected, atol=1e-3)
