from pathlib import Path

import keras
import numpy as np
import pytest

from ml.models.interaction import CompressedInteraction
from tests.ml.models.reference import compressed_interaction
from tests.ml.models.test_layers import assert_reloads_equal, assert_whole_config, kernels_of, random_weights


def built(features: int = 3, **arguments: object) -> CompressedInteraction:
    layer = CompressedInteraction(**arguments)
    layer.build((None, features, 4))
    return layer


def test_hand_computed() -> None:
    layer = built(2, feature_maps=[1, 1])
    layer.set_weights([np.array([[1.0], [0], [0], [1]]), np.array([[1.0], [-1]])])
    # Columns 1 and 2 of the two features: (2, 3) and (1, -1). The first map is the sum of both squares, 13 and 2; the
    # second one that map times the first feature, minus that map times the second: 13 * 2 - 13 * 3 and 2 * 1 + 2 * 1.
    output = np.asarray(layer(np.array([[[2, 1], [3, -1]]], dtype=np.float32)))
    np.testing.assert_allclose(output, [[13 + 2, -13 + 4]])


def test_equals_plain_loops() -> None:
    layer = built(3, feature_maps=[4, 2, 3])
    random_weights(layer)
    inputs = np.random.default_rng(1).normal(size=(5, 3, 4)).astype(np.float32)
    kernels = [np.asarray(kernel, np.float64) for kernel in layer.kernels]
    expected = compressed_interaction(inputs.astype(np.float64), kernels)
    assert expected.shape == (5, 9)
    np.testing.assert_allclose(layer(inputs), expected, rtol=1e-4, atol=1e-4)


def test_weights() -> None:
    layer = built(3, feature_maps=[4, 2])
    assert {name: kernel.shape for name, kernel in kernels_of(layer).items()} == {
        "kernel_1": (9, 4),
        "kernel_2": (12, 2),
    }


def test_starts_glorot_uniform_and_by_the_seed() -> None:
    first, again, other = (kernels_of(built(12, feature_maps=[144, 12], seed=seed)) for seed in (1, 1, 2))
    limit = np.sqrt(6 / (144 + 144))
    assert 0.99 * limit < np.abs(first["kernel_1"]).max() <= limit
    for name, kernel in first.items():
        np.testing.assert_array_equal(kernel, again[name])
        assert not np.isclose(kernel, other[name]).all()


def test_kernels_of_equal_shape_start_different() -> None:
    for seed in (None, 3):
        first, second = built(3, feature_maps=[3, 3], seed=seed).kernels
        assert not np.isclose(first, second).all()


def test_penalty() -> None:
    layer = built(2, feature_maps=[1, 1], l2=0.5)
    layer.set_weights([np.array([[1.0], [2], [0], [0]]), np.array([[3.0], [0]])])
    assert float(sum(layer.losses)) == pytest.approx(0.5 * (1 + 4 + 9))
    assert built(2).losses == []


def test_symbolic_shape() -> None:
    assert CompressedInteraction([8, 4])(keras.Input((14, 16))).shape == (None, 12)


@pytest.mark.parametrize("feature_maps", [[], [3, 0]])
def test_refuses_layers_without_maps(feature_maps: list[int]) -> None:
    with pytest.raises(ValueError, match="feature_maps must hold at least one positive number"):
        CompressedInteraction(feature_maps)


def test_refuses_flat_input() -> None:
    with pytest.raises(ValueError, match=r"\[batch, features, width\], got \(2, 3\)"):
        CompressedInteraction()(np.zeros((2, 3), dtype=np.float32))


def test_config_is_whole() -> None:
    arguments = {"feature_maps": (3, 2), "l2": 0.5, "seed": 9}
    assert_whole_config(CompressedInteraction(**arguments), arguments)


def test_reloads_equal(tmp_path: Path) -> None:
    inputs = np.random.default_rng(1).normal(size=(2, 3, 5)).astype(np.float32)
    assert_reloads_equal(CompressedInteraction([3, 2], l2=0.1, seed=9), inputs, "float32", tmp_path)
