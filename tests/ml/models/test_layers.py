import inspect
from itertools import combinations
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from ml.models.layers import FieldEmbedding, InteractingLayer, derive_seeds
from tests.ml.models.reference import interact

KERNELS = ["query", "key", "value", "residual"]


def built_embedding(field_dims: tuple[int, ...] = (3, 2), **arguments: object) -> FieldEmbedding:
    layer = FieldEmbedding(field_dims, **arguments)
    layer.build((None, len(field_dims)))
    return layer


def built_interacting(width: int = 5, **arguments: object) -> InteractingLayer:
    layer = InteractingLayer(**arguments)
    layer.build((None, 3, width))
    return layer


def kernels_of(layer: InteractingLayer) -> dict[str, np.ndarray]:
    return {weight.name: np.asarray(weight) for weight in layer.weights}


def random_weights(layer: keras.layers.Layer, seed: int = 0) -> None:
    generator = np.random.default_rng(seed)
    layer.set_weights([generator.normal(size=weight.shape) for weight in layer.weights])


def assert_whole_config(layer: keras.layers.Layer, arguments: dict[str, object]) -> None:
    """``arguments`` must be all of the constructor's, none at its default; the copy must repeat them."""
    parameters = inspect.signature(type(layer).__init__).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD and p.name != "self"}
    assert arguments.keys() == defaults.keys()
    assert not [name for name, value in arguments.items() if value == defaults[name]]
    config = layer.get_config()
    assert {name: config[name] for name in arguments} == arguments
    assert type(layer).from_config(config).get_config() == config


def assert_reloads_equal(layer: keras.layers.Layer, inputs: np.ndarray, dtype: str, path: Path) -> None:
    entry = keras.Input(inputs.shape[1:], dtype=dtype)
    model = keras.Model(entry, layer(entry))
    random_weights(layer)
    model.save(path / "model.keras")
    loaded = keras.saving.load_model(path / "model.keras")
    np.testing.assert_array_equal(loaded(inputs), model(inputs))
    assert loaded.layers[-1].get_config() == layer.get_config()


class TestFieldEmbedding:
    def test_hand_made_table(self) -> None:
        layer = built_embedding((3, 1, 2), embed_dim=2)
        layer.set_weights([np.array([[0, 1], [10, 11], [20, 21], [30, 31], [40, 41], [50, 51]])])
        output = np.asarray(layer(np.array([[2, 0, 1], [0, 0, 0]], dtype=np.int32)))
        expected = [[[20, 21], [30, 31], [50, 51]], [[0, 1], [30, 31], [40, 41]]]
        assert output.tolist() == expected

    def test_starts_glorot_uniform(self) -> None:
        table = np.asarray(built_embedding((150, 50), embed_dim=16, seed=1).table)
        limit = np.sqrt(6 / (200 + 16))
        assert table.shape == (200, 16)
        assert 0.99 * limit < np.abs(table).max() <= limit
        assert np.std(table) == pytest.approx(limit / np.sqrt(3), rel=0.03)

    def test_seed_decides_the_start(self) -> None:
        first, again, other = (np.asarray(built_embedding(seed=seed).table) for seed in (1, 1, 2))
        np.testing.assert_array_equal(first, again)
        assert not np.isin(first, other).any()

    def test_penalty(self) -> None:
        layer = built_embedding(embed_dim=2, l2=0.25)
        layer.set_weights([np.array([[1, 0], [0, 2], [0, 0], [-3, 0], [0, 1]])])
        assert [float(loss) for loss in layer.losses] == [0.25 * (1 + 4 + 9 + 1)]

    def test_no_penalty_by_default(self) -> None:
        assert built_embedding().losses == []

    def test_refuses_another_number_of_fields(self) -> None:
        with pytest.raises(ValueError, match=r"2 features.*\(4, 3\)"):
            FieldEmbedding([3, 2])(np.zeros((4, 3), dtype=np.int32))

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"field_dims": []}, r"field_dims.*\[\]"),
            ({"field_dims": [3, 0]}, r"field_dims.*\[3, 0\]"),
        ],
    )
    def test_refuses_bad_arguments(self, arguments: dict[str, object], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            FieldEmbedding(**arguments)

    def test_config_is_whole(self) -> None:
        arguments = {"field_dims": (3, 2), "embed_dim": 4, "l2": 0.5, "seed": 9}
        assert_whole_config(FieldEmbedding(**arguments), arguments)

    def test_reloads_equal(self, tmp_path: Path) -> None:
        codes = np.array([[2, 0], [1, 1]], dtype=np.int32)
        assert_reloads_equal(FieldEmbedding([3, 2], embed_dim=4, l2=0.5, seed=9), codes, "int32", tmp_path)


class TestInteractingLayer:
    @pytest.mark.parametrize("use_residual", [True, False])
    @pytest.mark.parametrize("scaled", [True, False])
    def test_equals_plain_loops(self, scaled: bool, use_residual: bool) -> None:
        layer = built_interacting(5, num_heads=2, head_dim=4, scaled=scaled, use_residual=use_residual)
        random_weights(layer)
        inputs = np.random.default_rng(1).normal(size=(3, 3, 5)).astype(np.float32)
        expected = interact(inputs.astype(np.float64), kernels_of(layer), 2, 4, scaled)
        assert 0.2 < np.mean(expected > 0) < 0.95  # the ReLU cuts some of them
        np.testing.assert_allclose(layer(inputs), expected, rtol=1e-5, atol=1e-5)

    def test_hand_computed(self) -> None:
        layer = built_interacting(1, num_heads=1, head_dim=1)
        layer.set_weights([np.array([[1.0]]), np.array([[np.log(2)]]), np.array([[3.0]]), np.array([[-1.0]])])
        output = np.asarray(layer(np.array([[[1.0], [0.0], [-1.0]]], dtype=np.float32)))
        # Field 1: scores log 2, 0, -log 2, so weights 4/7, 2/7, 1/7 of the values 3, 0, -3; residual -1.
        # Field 2: equal weights, sum 0; field 3 mirrors field 1 and turns negative: -9/7 + 1.
        np.testing.assert_allclose(output[0, :, 0], [9 / 7 - 1, 0, 0], atol=1e-6)

    @pytest.mark.parametrize(("use_residual", "names"), [(True, KERNELS), (False, KERNELS[:3])])
    def test_weights(self, use_residual: bool, names: list[str]) -> None:
        layer = built_interacting(5, num_heads=2, head_dim=3, use_residual=use_residual)
        assert {name: kernel.shape for name, kernel in kernels_of(layer).items()} == dict.fromkeys(names, (5, 6))
        assert len(layer.trainable_weights) == len(names)

    @pytest.mark.parametrize("seed", [None, 3])
    def test_kernels_start_different(self, seed: int | None) -> None:
        for first, second in combinations(kernels_of(built_interacting(seed=seed)).values(), 2):
            assert not np.isclose(first, second).all()

    def test_starts_truncated_normal(self) -> None:
        for kernel in kernels_of(built_interacting(64, num_heads=2, head_dim=32, seed=1)).values():
            assert 0.09 < np.abs(kernel).max() <= 0.1
            assert abs(kernel.mean()) < 0.003
            # Cut at two standard deviations, a normal keeps 0.88 of its own.
            assert kernel.std() == pytest.approx(0.88 * 0.05, rel=0.05)

    def test_seed_decides_the_start(self) -> None:
        first, again, other = (kernels_of(built_interacting(seed=seed)) for seed in (1, 1, 2))
        for name in KERNELS:
            np.testing.assert_array_equal(first[name], again[name])
            assert not np.isclose(first[name], other[name]).all()

    def test_symbolic_shape(self) -> None:
        output = InteractingLayer(num_heads=2, head_dim=16)(keras.Input((14, 16)))
        assert output.shape == (None, 14, 32)

    def test_relu_on_projections_hand_computed(self) -> None:
        layer = built_interacting(1, num_heads=1, head_dim=1, projection_relu=True)
        layer.set_weights([np.array([[1.0]]), np.array([[np.log(2)]]), np.array([[3.0]]), np.array([[-1.0]])])
        output = np.asarray(layer(np.array([[[1.0], [0.0], [-1.0]]], dtype=np.float32)))
        # Field 3's query, key and value are cut to 0. Field 1: scores log 2, 0, 0, so weights 1/2, 1/4, 1/4 of the
        # values 3, 0, 0; residual -1. Fields 2 and 3: equal weights; residuals 0 and 1, which no ReLU cuts.
        np.testing.assert_allclose(output[0, :, 0], [3 / 2 - 1, 1, 1 + 1], atol=1e-6)

    def test_options_equal_plain_numpy(self) -> None:
        layer = built_interacting(5, num_heads=2, head_dim=4, projection_relu=True, layer_norm=True)
        random_weights(layer)
        inputs = np.random.default_rng(1).normal(size=(3, 3, 5)).astype(np.float32)
        weights = {name: weight.astype(np.float64) for name, weight in kernels_of(layer).items()}
        assert list(weights) == [*KERNELS, "gamma", "beta"]
        query, key, value = (np.maximum(inputs @ weights[name], 0) for name in KERNELS[:3])  # [batch, fields, 8]
        heads = []
        for columns in (slice(0, 4), slice(4, 8)):
            exponents = np.exp(query[:, :, columns] @ key[:, :, columns].transpose(0, 2, 1))
            heads.append(exponents / exponents.sum(axis=2, keepdims=True) @ value[:, :, columns])
        output = np.maximum(np.concatenate(heads, axis=2) + inputs @ weights["residual"], 0)
        deviations = output - output.mean(axis=2, keepdims=True)
        variances = np.mean(deviations**2, axis=2, keepdims=True)
        expected = weights["gamma"] * deviations / np.sqrt(variances + 1e-3) + weights["beta"]
        np.testing.assert_allclose(layer(inputs), expected, rtol=1e-4, atol=1e-5)

    def test_attention_dropout_drops_weights(self) -> None:
        layer = built_interacting(1, num_heads=1, head_dim=1, use_residual=False, attention_dropout=0.25, seed=1)
        layer.set_weights([np.array([[1.0]]), np.array([[1.0]]), np.array([[6.0]])])
        rows = np.tile(np.array([[1.0], [0.0]], dtype=np.float32), (2000, 1, 1))
        output = np.asarray(layer(rows, training=True))[:, 1, 0]
        # Field 2 weighs the values 6 and 0 equally; a weight that is not dropped is divided by 0.75.
        assert np.unique(output.round(4)).tolist() == [0, 4]
        assert np.mean(output == 0) == pytest.approx(0.25, abs=0.04)

    def test_attention_dropout_only_while_training_and_by_the_seed(self) -> None:
        inputs = np.random.default_rng(1).normal(size=(3, 3, 5)).astype(np.float32)
        settings = ((0, 1), (0.5, 1), (0.5, 1), (0.5, 2))
        plain, first, again, other = (
            built_interacting(5, attention_dropout=rate, seed=seed) for rate, seed in settings
        )
        for layer in (plain, first, again, other):
            random_weights(layer)
        np.testing.assert_array_equal(first(inputs), plain(inputs))
        np.testing.assert_array_equal(first(inputs, training=False), plain(inputs, training=True))
        output = np.asarray(first(inputs, training=True))
        np.testing.assert_array_equal(again(inputs, training=True), output)
        for differing in (first(inputs, training=True), other(inputs, training=True), first(inputs)):
            assert not np.allclose(differing, output)

    def test_entmax_hand_computed(self) -> None:
        layer = built_interacting(1, num_heads=1, head_dim=1, attention="entmax")
        layer.set_weights([np.array([[1.0]]), np.array([[0.4]]), np.array([[-3.0]]), np.array([[2.0]])])
        inputs = np.array([[[1.0], [0.0], [-3.0]]], dtype=np.float32)
        # Field 1: scores .4, 0, -1.2, so weights .64, .36, 0; field 2: equal weights; field 3: scores -1.2, 0, 3.6, so
        # all on itself. Values -3, 0, 9; residuals 2, 0, -6.
        weights = [[0.64, 0.36, 0], [1 / 3, 1 / 3, 1 / 3], [0, 0, 1]]
        np.testing.assert_allclose(layer.attention_weights(inputs)[0, 0], weights, atol=1e-6)
        np.testing.assert_allclose(np.asarray(layer(inputs))[0, :, 0], [-1.92 + 2, 2, 9 - 6], atol=1e-5)

    @pytest.mark.parametrize("attention", ["softmax", "entmax"])
    def test_sides_hand_computed(self, attention: str) -> None:
        layer = built_interacting(1, num_heads=1, head_dim=1, attention=attention, sides=["a", "b", "a"])
        key = {"softmax": np.log(3) / 2, "entmax": (np.sqrt(0.75) - np.sqrt(0.25))}[attention]
        layer.set_weights([np.array([[1.0]]), np.array([[key]]), np.array([[3.0]]), np.array([[-1.0]])])
        inputs = np.array([[[1.0], [2.0], [-1.0]]], dtype=np.float32)
        # Features 1 and 3 weigh the values 3 and -3 by 3/4 and 1/4, the nearer one more; feature 2 has its own, 6.
        weights = [[0.75, 0, 0.25], [0, 1, 0], [0.25, 0, 0.75]]
        np.testing.assert_allclose(layer.attention_weights(inputs)[0, 0], weights, atol=1e-6)
        np.testing.assert_allclose(np.asarray(layer(inputs))[0, :, 0], [1.5 - 1, 6 - 2, 0], atol=1e-5)

    def test_refuses_unknown_attention(self) -> None:
        with pytest.raises(ValueError, match="attention must be one of softmax, entmax, got 'sparsemax'"):
            InteractingLayer(attention="sparsemax")

    def test_refuses_another_number_of_features_than_sides(self) -> None:
        with pytest.raises(ValueError, match=r"expected 2 features, one for each side, got \(None, 3, 5\)"):
            built_interacting(sides=["user", "movie"])

    def test_a_configuration_of_an_earlier_release_is_read(self) -> None:
        config = InteractingLayer(num_heads=2, head_dim=3, seed=9).get_config()
        earlier = {name: value for name, value in config.items() if name not in {"attention", "sides"}}
        assert InteractingLayer.from_config(earlier).get_config() == config

    def test_options_leave_the_kernels_start(self) -> None:
        plain = kernels_of(built_interacting(seed=1))
        changed = kernels_of(built_interacting(seed=1, projection_relu=True, attention_dropout=0.5, layer_norm=True))
        for name in KERNELS:
            np.testing.assert_array_equal(plain[name], changed[name])
        assert list(plain) == KERNELS

    def test_refuses_flat_input(self) -> None:
        with pytest.raises(ValueError, match=r"features.*\(2, 3\)"):
            InteractingLayer()(np.zeros((2, 3), dtype=np.float32))

    def test_config_is_whole(self) -> None:
        arguments = {
            "num_heads": 3,
            "head_dim": 4,
            "use_residual": False,
            "scaled": True,
            "seed": 9,
            "projection_relu": True,
            "attention_dropout": 0.25,
            "layer_norm": True,
            "attention": "entmax",
            "sides": ("user", "movie"),
        }
        assert_whole_config(InteractingLayer(**arguments), arguments)

    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"use_residual": False, "scaled": True},
            {"projection_relu": True, "attention_dropout": 0.5},
            {"layer_norm": True},
            {"attention": "entmax", "sides": ["user", "movie", "user"]},
        ],
    )
    def test_reloads_equal(self, options: dict[str, Any], tmp_path: Path) -> None:
        layer = InteractingLayer(num_heads=2, head_dim=3, seed=9, **options)
        inputs = np.random.default_rng(1).normal(size=(2, 3, 5)).astype(np.float32)
        assert_reloads_equal(layer, inputs, "float32", tmp_path)


class TestDeriveSeeds:
    def test_distinct_and_repeatable(self) -> None:
        seeds = derive_seeds(5, 8)
        assert len({*seeds, *derive_seeds(6, 8)}) == 16
        assert derive_seeds(5, 8) == seeds

    def test_the_first_are_the_same_for_every_count(self) -> None:
        seeds = derive_seeds(5, 30)
        assert all(derive_seeds(5, count) == seeds[:count] for count in range(1, 30))

    def test_no_seed(self) -> None:
        assert derive_seeds(None, 2) == [None, None]
