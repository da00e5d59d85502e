import os
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import keras
import numpy as np
import pytest
from pydantic import ValidationError

from ml.models.autoint import Inputs, Token, build_model, like_network
from ml.models.config import ARCHITECTURES, AutoIntCINConfig, AutoIntConfig, AutoIntMLPConfig, AutoIntMultitaskConfig
from ml.models.layers import InteractingLayer
from tests.ml.models.reference import forward, randomize, sigmoid

ROOT = Path(__file__).parents[3]
FAMILY = [name for name, kind in ARCHITECTURES.items() if issubclass(kind, AutoIntConfig)]
DIMS = (5, 4, 3)
MOVIELENS_1M = (6040, 3706, 10, 81, 4, 12, 1, 18, 18, 16, 2, 7, 21, 3439)  # as in the reference
SMALL = {"embed_dim": 4, "num_layers": 2, "num_heads": 2, "head_dim": 3}
VARIANTS = {
    "autoint": AutoIntConfig(**SMALL),
    "autoint-scaled-without-residual": AutoIntConfig(**SMALL, scaled=True, use_residual=False),
    "autoint_mlp": AutoIntMLPConfig(**SMALL, hidden_units=[6, 5]),
    "autoint_cin": AutoIntCINConfig(**SMALL, feature_maps=[3, 2]),
    "autoint_multitask": AutoIntMultitaskConfig(**SMALL),
    "autoint_mlp-normalised": AutoIntMLPConfig(**SMALL, hidden_units=[6], batch_normalization=True),
}
CODES = np.random.default_rng(0).integers(0, DIMS, size=(9, len(DIMS)), dtype=np.int32)


def small_model(variant: str, seed: int = 1) -> keras.Model:
    return build_model(variant.partition("-")[0], Inputs(DIMS), VARIANTS[variant], seed)


def probabilities_of(model: keras.Model, codes: np.ndarray = CODES) -> np.ndarray:
    return np.asarray(like_network(model)(codes))


def logits_of(model: keras.Model, codes: np.ndarray) -> np.ndarray:
    return np.asarray(keras.Model(model.input, model.get_layer("logit").output)(codes))


@pytest.mark.parametrize(
    ("name", "config", "parameters"),
    [
        ("autoint", AutoIntConfig(), 224_688),
        ("autoint_mlp", AutoIntMLPConfig(), 232_977),
        # Beside AutoInt's: kernels of 14 * 14 and 16 * 14 products by 16 maps, 32 weights and a bias of the logit.
        ("autoint_cin", AutoIntCINConfig(), 224_688 + 196 * 16 + 224 * 16 + 33),
    ],
)
def test_parameter_counts(name: str, config: AutoIntConfig, parameters: int) -> None:
    model = build_model(name, Inputs(MOVIELENS_1M), config, seed=42)
    assert model.count_params() == parameters
    assert (model.input_shape, model.output_shape) == ((None, 14), (None, 1))


@pytest.mark.parametrize("variant", VARIANTS)
def test_output_equals_plain_numpy(variant: str) -> None:
    model = small_model(variant)
    logit = forward(randomize(model), DIMS, VARIANTS[variant], CODES)
    assert np.ptp(logit) > 0.5
    np.testing.assert_allclose(logits_of(model, CODES)[:, 0], logit, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(probabilities_of(model)[:, 0], sigmoid(logit), rtol=1e-4)


@pytest.mark.parametrize("name", FAMILY)
def test_logit_layer_holds_log_odds(name: str) -> None:
    model = small_model(name)
    randomize(model, scale=0.5)  # so that no probability rounds to 1
    probability = probabilities_of(model).astype(np.float64)
    np.testing.assert_allclose(logits_of(model, CODES), np.log(probability / (1 - probability)), rtol=1e-3)


@pytest.mark.parametrize("name", FAMILY)
def test_seed_decides_the_start(name: str) -> None:
    first, again, other = (small_model(name, seed) for seed in (1, 1, 2))
    for weight, same, different in zip(first.weights, again.weights, other.weights, strict=True):
        np.testing.assert_array_equal(weight, same)
        if weight.name != "bias":  # biases start at zero
            assert not np.isclose(weight, different, atol=1e-9).any()


@pytest.mark.parametrize("name", FAMILY)
def test_kernels_of_equal_shape_start_different(name: str) -> None:
    branch = {"autoint_mlp": {"hidden_units": [12, 12]}, "autoint_cin": {"feature_maps": [3, 3]}}.get(name, {})
    settings = {**SMALL, "num_layers": 3, **branch}
    model = build_model(name, Inputs(DIMS), ARCHITECTURES[name](**settings), seed=1)
    kernels = [np.asarray(weight) for weight in model.weights if weight.name != "bias"]
    for first, second in combinations(kernels, 2):
        if first.shape == second.shape:
            assert not np.isclose(first, second, atol=1e-9).all()


@pytest.mark.parametrize("name", FAMILY)
def test_starts_at_even_odds(name: str) -> None:
    np.testing.assert_allclose(probabilities_of(small_model(name)), 0.5, atol=1e-3)


@pytest.mark.parametrize(
    ("start", "deviations"), [("small", [1e-4, 1e-4]), ("glorot", [np.sqrt(2 / 612), np.sqrt(2 / 601)])]
)
def test_the_deep_branch_starts_as_set(start: str, deviations: list[float]) -> None:
    """Glorot-uniform kernels have the variance 2 / (inputs + outputs): here 2 / (12 + 600) and 2 / (600 + 1)."""
    config = AutoIntMLPConfig(embed_dim=4, num_layers=1, head_dim=4, hidden_units=[600], deep_start=start)
    model = build_model("autoint_mlp", Inputs((5, 4, 3)), config, seed=1)
    kernels = [np.asarray(model.get_layer(name).kernel) for name in ("deep_1", "deep_logit")]
    assert [kernel.std() for kernel in kernels] == pytest.approx(deviations, rel=0.1)


def test_dropout_only_while_training() -> None:
    config = AutoIntMLPConfig(**SMALL, hidden_units=[6, 5], dropout=0.5)
    model = build_model("autoint_mlp", Inputs(DIMS), config, seed=1)
    expected = sigmoid(forward(randomize(model), DIMS, config, CODES))
    predicted = np.asarray(model(CODES, training=False))
    np.testing.assert_allclose(predicted[:, 0], expected, rtol=1e-4)
    assert np.abs(np.asarray(model(CODES, training=True)) - predicted).max() > 0.01
    np.testing.assert_array_equal(model(CODES), predicted)


@pytest.mark.parametrize("name", FAMILY)
def test_every_interacting_layer_gets_the_settings(name: str) -> None:
    settings = {"use_residual": False, "scaled": True, "projection_relu": True, "layer_norm": True}
    settings |= {"num_heads": 2, "head_dim": 3, "attention_dropout": 0.25}
    model = build_model(name, Inputs(DIMS), ARCHITECTURES[name](**{**SMALL, **settings}), seed=1)
    configs = [layer.get_config() for layer in model.layers if isinstance(layer, InteractingLayer)]
    assert [{key: config[key] for key in settings} for config in configs] == [settings, settings]


TOKENS = tuple(Token(f"{side}_feature", side) for side in ("user", "movie", "user"))


@pytest.mark.parametrize("name", FAMILY)
def test_local_layers_come_first(name: str) -> None:
    config = ARCHITECTURES[name](**{**SMALL, "num_layers": 3}, local_layers=2, attention="entmax")
    model = build_model(name, Inputs(DIMS, tokens=TOKENS), config, seed=1)
    layers = [layer for layer in model.layers if isinstance(layer, InteractingLayer)]
    assert [layer.sides for layer in layers] == [("user", "movie", "user"), ("user", "movie", "user"), ()]
    assert {layer.attention for layer in layers} == {"entmax"}


def test_a_local_layer_keeps_sides_apart() -> None:
    """The movie's embedding does not show in what the first layer makes of the user's features, but in the second's."""
    model = build_model("autoint", Inputs(DIMS, tokens=TOKENS), AutoIntConfig(**SMALL, local_layers=1), seed=1)
    randomize(model, scale=0.5)
    others = CODES.copy()
    others[:, 1] = (others[:, 1] + 1) % DIMS[1]
    for number, changes in ((1, [False, True, False]), (2, [True, True, True])):
        hidden = keras.Model(model.input, model.get_layer(f"interacting_{number}").output)
        unlike = ~np.isclose(hidden(CODES), hidden(others))  # [rows, features, columns]
        assert unlike.any(axis=(0, 2)).tolist() == changes


def test_local_layers_need_the_features_sides() -> None:
    with pytest.raises(ValueError, match="local_layers is 1, and the inputs name no tokens"):
        build_model("autoint", Inputs(DIMS), AutoIntConfig(local_layers=1), seed=1)


@pytest.mark.parametrize(("setting", "path"), [("l2_embedding", "embedding/table"), ("l2_deep", "deep_1/kernel")])
def test_penalties(setting: str, path: str) -> None:
    config = AutoIntMLPConfig(**SMALL, hidden_units=[6], **{setting: 0.1})
    model = build_model("autoint_mlp", Inputs(DIMS), config, seed=1)
    weights = randomize(model)
    paths = [path] if setting == "l2_embedding" else [path, "deep_logit/kernel"]
    expected = sum(0.1 * np.sum(weights[path] ** 2) for path in paths)
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_saved_models_predict_the_same_in_a_fresh_process(tmp_path: Path) -> None:
    models = {name: small_model(name) for name in FAMILY}
    for name, model in models.items():
        randomize(model)
        model.save(tmp_path / f"{name}.keras")
    np.save(tmp_path / "codes.npy", CODES)
    script = """
import keras
import numpy as np
import ml.models.autoint
for name in ("autoint", "autoint_mlp", "autoint_cin"):
    model = keras.saving.load_model(f"{name}.keras", compile=False)
    np.save(f"{name}.npy", model(np.load("codes.npy")))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True, capture_output=True)
    for name, model in models.items():
        np.testing.assert_array_equal(np.load(tmp_path / f"{name}.npy"), model(CODES))


def test_unknown_architecture() -> None:
    with pytest.raises(ValueError, match=r"'deepfm'.*autoint, autoint_mlp"):
        build_model("deepfm", Inputs(DIMS), AutoIntConfig(), seed=1)


class TestConfig:
    def test_unknown_key(self) -> None:
        with pytest.raises(ValidationError, match="num_head\n"):
            AutoIntConfig(num_head=2)
        with pytest.raises(ValidationError, match="dropout\n"):
            AutoIntConfig(dropout=0.4)

    @pytest.mark.parametrize(
        "settings",
        [
            {"embed_dim": 0},
            {"num_layers": 0},
            {"num_heads": 0},
            {"head_dim": -1},
            {"l2_embedding": -1e-5},
            {"attention_dropout": 1.0},
            {"dropout": 1.0},
            {"dropout": -0.1},
            {"l2_deep": -1.0},
            {"embed_dim": "wide"},
            {"attention": "sparsemax"},
            {"local_layers": -1},
            {"local_layers": 2, "num_layers": 2},
        ],
    )
    def test_out_of_range(self, settings: dict[str, object]) -> None:
        with pytest.raises(ValidationError, match=next(iter(settings))):
            AutoIntMLPConfig(**settings)

    def test_frozen(self) -> None:
        config = AutoIntMLPConfig()
        with pytest.raises(ValidationError, match="frozen"):
            config.dropout = 0.1
        assert config.dropout == 0.4
