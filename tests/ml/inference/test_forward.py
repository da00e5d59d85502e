import keras
import numpy as np
import pytest

from ml.inference.forward import AutoIntForward, KerasForward, forward_of
from ml.models.autoint import build_model
from ml.models.config import AutoIntConfig, AutoIntMLPConfig

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
    "deep, normalised": ("autoint_mlp", AutoIntMLPConfig(batch_normalization=True, hidden_units=[8, 5, 3])),
}


def randomized(name: str) -> keras.Model:
    """A network whose weights are all far from zero, so that every part shows in the output."""
    architecture, config = CONFIGS[name]
    network = build_model(architecture, FIELD_DIMS, config, seed=1)
    rng = np.random.default_rng(2)
    for weight in network.weights:
        positive = "variance" in weight.path
        weight.assign(rng.uniform(0.5, 2, weight.shape) if positive else rng.normal(0, 0.25, weight.shape))
    return network


def random_codes(rows: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    return np.stack([rng.integers(0, size, rows) for size in FIELD_DIMS], axis=1).astype(np.int32)


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_the_network(name: str) -> None:
    network, codes = randomized(name), random_codes(500)
    forward = forward_of(network)
    assert isinstance(forward, AutoIntForward)
    expected = network.predict(codes, verbose=0)[:, 0]
    assert expected.std() > 0.01
    np.testing.assert_allclose(1 / (1 + np.exp(-forward.logits(codes))), expected, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("rows", [0, 1, 63, 64, 65, 8193])
def test_any_number_of_rows(rows: int, threads: int) -> None:
    forward = AutoIntForward(randomized("autoint"), threads)
    codes = random_codes(8193)
    logits = forward.logits(codes[:rows])
    assert (logits.shape, logits.dtype) == ((rows,), np.float32)
    np.testing.assert_allclose(logits, forward.logits(codes)[:rows], rtol=1e-5, atol=1e-5)


def test_large_scores_do_not_overflow() -> None:
    network, codes = randomized("autoint"), random_codes(100)
    network.get_layer("embedding").table.assign(network.get_layer("embedding").table * 20)
    expected = network.predict(codes, verbose=0)[:, 0]
    # Scores of hundreds leave float32 fewer digits for the differences that the softmax sees.
    np.testing.assert_allclose(1 / (1 + np.exp(-forward_of(network).logits(codes))), expected, atol=1e-3)


def test_other_networks_are_run_by_keras() -> None:
    codes = keras.Input((14,), dtype="int32")
    hidden = keras.layers.Rescaling(0.1)(codes)
    other = keras.Model(codes, keras.layers.Dense(1, activation="sigmoid")(hidden))
    forward = forward_of(other)
    assert isinstance(forward, KerasForward)
    rows = random_codes(50)
    expected = other.predict(rows, verbose=0)[:, 0]
    np.testing.assert_allclose(1 / (1 + np.exp(-forward.logits(rows))), expected, atol=1e-5)
    assert forward.logits(rows[:0]).shape == (0,)
