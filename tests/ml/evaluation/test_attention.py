import keras
import numpy as np
import pytest

from ml.evaluation.attention import AttentionMaps
from ml.models.autoint import Inputs, build_model
from ml.models.config import AutoIntConfig
from ml.models.layers import InteractingLayer

NAMES = ("left", "right")


def network_of(layers: int = 1, **settings: object) -> keras.Model:
    """Two features of two values; embeddings of width 1, one head of width 1."""
    config = AutoIntConfig(embed_dim=1, num_layers=layers, num_heads=1, head_dim=1, **settings)
    network = build_model("autoint", Inputs((2, 2)), config, seed=1)
    network.get_layer("embedding").set_weights([np.array([[1.0], [0.0], [2.0], [-1.0]])])
    one, key = np.array([[1.0]]), np.array([[np.log(2)]])
    for number in range(1, layers + 1):
        network.get_layer(f"interacting_{number}").set_weights([one, key, one, one])
    return network


def test_the_mean_of_rows_hand_computed() -> None:
    # Row 1 embeds 1 and 2: the first's scores log 2 and 2 log 2 give 1/3 and 2/3, the second's 2 and 4 log 2 give 1/5
    # and 4/5. Row 2 embeds 0 and -1: 1/2 and 1/2; 0 and log 2 give 1/3 and 2/3.
    rows = np.array([[0, 0], [1, 1]], np.int32)
    maps = AttentionMaps.of(network_of(), NAMES, [rows])
    assert maps is not None
    expected = [[(1 / 3 + 1 / 2) / 2, (2 / 3 + 1 / 2) / 2], [(1 / 5 + 1 / 3) / 2, (4 / 5 + 2 / 3) / 2]]
    assert maps.features == NAMES
    np.testing.assert_allclose(maps.weights, [[expected]], rtol=1e-6)


def test_a_further_layer_sees_what_the_one_before_made() -> None:
    maps = AttentionMaps.of(network_of(2), NAMES, [np.array([[1, 1]], np.int32)])
    assert maps is not None
    # The first layer makes of 0 and -1: ReLU(-1/2 + 0) = 0 and ReLU(-2/3 - 1) = 0, so the second weighs them equally.
    np.testing.assert_allclose(maps.weights[:, 0], [[[1 / 2, 1 / 2], [1 / 3, 2 / 3]], [[1 / 2, 1 / 2]] * 2], rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 512, 1300])
def test_any_number_of_rows(rows: int) -> None:
    codes = np.random.default_rng(0).integers(0, 2, (rows, 2), dtype=np.int32)
    network = network_of(attention_dropout=0.5)
    maps = AttentionMaps.of(network, NAMES, [codes])
    assert maps is not None
    layer = network.get_layer("interacting_1")
    weights = layer.attention_weights(keras.Model(network.input, layer.input)(codes))
    np.testing.assert_allclose(maps.weights[0], np.asarray(weights).mean(axis=0), rtol=1e-5)


def test_a_network_that_takes_numeric_features() -> None:
    inputs = Inputs((2, 2), centres=[0.0], scales=[1.0])
    network = build_model("autoint", inputs, AutoIntConfig(num_layers=2), seed=1)
    given = [np.zeros((3, 2), np.int32), np.ones((3, 1), np.float32)]
    maps = AttentionMaps.of(network, (*NAMES, "timestamp"), given)
    assert maps is not None
    assert maps.weights.shape == (2, 2, 3, 3)
    np.testing.assert_allclose(maps.weights.sum(axis=-1), 1, rtol=1e-6)


def test_other_networks_have_none() -> None:
    codes = keras.Input((2,), dtype="int32")
    hidden = keras.layers.Embedding(2, 4)(codes)
    rows = [np.zeros((1, 2), np.int32)]
    assert AttentionMaps.of(keras.Model(codes, hidden), NAMES, rows) is None
    heads = InteractingLayer(4, 1)(InteractingLayer(2, 2)(hidden))
    assert AttentionMaps.of(keras.Model(codes, heads), NAMES, rows) is None
    assert AttentionMaps.of(network_of(), (*NAMES, "another"), rows) is None


def test_a_document_is_read_back_rounded() -> None:
    maps = AttentionMaps(NAMES, np.array([[[[0.123456, 0.876544], [0.5, 0.5]]]]))
    document = maps.to_dict()
    assert document == {"features": ["left", "right"], "weights": [[[[0.1235, 0.8765], [0.5, 0.5]]]]}
    assert AttentionMaps.from_dict(document).weights.tolist() == document["weights"]
