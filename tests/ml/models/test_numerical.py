from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from ml.features.collaborative_tables import CollaborativeTables
from ml.models.autoint import Inputs, build_model, with_collaborative
from ml.models.config import AutoIntConfig
from ml.models.numerical import NumericalEmbedding, PairProducts, SelectFields

LAYERS = {
    "numbers": NumericalEmbedding([1.0, -2.0], [0.5, 4.0], embed_dim=3, seed=7),
    "fields": SelectFields([2, 0]),
    "products": PairProducts((0, 2), (4, 5), [2, 1]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_config_round_trip(name: str) -> None:
    layer = LAYERS[name]
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


def test_numbers_are_standardised_and_embedded() -> None:
    layer = NumericalEmbedding([1.0, -2.0], [0.5, 4.0], embed_dim=3, seed=7)
    numbers = np.array([[2.0, -2.0], [1.0, 6.0]], np.float32)
    output = np.asarray(layer(numbers))
    direction, offset = np.asarray(layer.direction), np.asarray(layer.offset)
    assert output.shape == (2, 2, 3)
    assert output[0, 0] == pytest.approx(2 * direction[0] + offset[0], abs=1e-6)  # (2 - 1) / 0.5
    assert output[0, 1] == pytest.approx(offset[1], abs=1e-6)
    assert output[1, 0] == pytest.approx(offset[0], abs=1e-6)
    assert output[1, 1] == pytest.approx(2 * direction[1] + offset[1], abs=1e-6)  # (6 + 2) / 4
    assert not np.allclose(direction, offset)


def test_fields_are_selected_in_the_order_asked_for() -> None:
    assert np.asarray(SelectFields([2, 0])(np.array([[5, 6, 7], [8, 9, 10]]))).tolist() == [[7, 5], [10, 8]]


def test_products_by_hand() -> None:
    layer = PairProducts((0, 2), (2, 3), [2, 1])
    layer.build((None, 3))
    layer.left.assign([[1, 2, 3], [4, 5, 6]])
    layer.right.assign([[1, 0, 2], [2, 1, -1], [0, 0, 1]])
    output = np.asarray(layer(np.array([[0, 9, 1], [1, 9, 0], [1, 9, 2]])))
    assert output.tolist() == [[1 * 2 + 2 * 1, -3], [4, 12], [0, 6]]
    assert layer.trainable_weights == []


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        (NumericalEmbedding, {"centres": [], "scales": []}, "at least one"),
        (NumericalEmbedding, {"centres": [1.0], "scales": [1.0, 2.0]}, "as many scales"),
        (NumericalEmbedding, {"centres": [1.0], "scales": [0.0]}, "positive"),
        (SelectFields, {"positions": []}, "at least one"),
        (SelectFields, {"positions": [1, 1]}, "distinct"),
        (SelectFields, {"positions": [-1]}, "from 0"),
        (PairProducts, {"positions": (0, -1), "sizes": (2, 2), "widths": [1]}, "positions"),
        (PairProducts, {"positions": (0, 1), "sizes": (2, 0), "widths": [1]}, "sizes"),
        (PairProducts, {"positions": (0, 1), "sizes": (2, 2), "widths": []}, "width"),
    ],
)
def test_bad_arguments_are_refused(kind: type[keras.layers.Layer], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**arguments)


def test_numbers_of_another_count_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected \[batch, 2\]"):
        NumericalEmbedding([0.0, 0.0], [1.0, 1.0])(np.zeros((3, 5), np.float32))


class TestWithSignals:
    FIELD_DIMS = (4, 5, 3)

    @pytest.fixture
    def network(self) -> keras.Model:
        inputs = Inputs(self.FIELD_DIMS, positions=[2, 1], centres=[0.5, 1.0], scales=[2.0, 1.0])
        return build_model("autoint", inputs, AutoIntConfig(embed_dim=3, num_layers=1, head_dim=2), seed=1)

    @pytest.fixture
    def signals(self) -> CollaborativeTables:
        rng = np.random.default_rng(3)
        users, movies = (rng.normal(size=(size, 3)).astype(np.float32) for size in self.FIELD_DIMS[:2])
        return CollaborativeTables(("a", "b"), (2, 1), users, movies)

    def test_gives_what_the_network_gives_with_the_signals_beside_the_codes(
        self, network: keras.Model, signals: CollaborativeTables, tmp_path: Path
    ) -> None:
        codes = np.array([[0, 1, 2], [3, 4, 0], [2, 2, 1]], np.int32)
        products = signals.users[codes[:, 0]] * signals.movies[codes[:, 1]]
        numbers = np.stack([products[:, 0] + products[:, 1], products[:, 2]], axis=1)
        expected = np.asarray(network([codes, numbers]))
        whole = with_collaborative(network, signals, (0, 1))
        assert np.asarray(whole(codes)) == pytest.approx(expected, abs=1e-6)
        whole.save(tmp_path / "network.keras")
        loaded = keras.saving.load_model(tmp_path / "network.keras", compile=False)
        assert np.asarray(loaded(codes)).tolist() == np.asarray(whole(codes)).tolist()

    def test_fields_that_are_not_selected_change_nothing(self, network: keras.Model) -> None:
        numbers = np.zeros((2, 2), np.float32)
        first, second = np.asarray(network([np.array([[0, 1, 2], [3, 1, 2]], np.int32), numbers]))[:, 0]
        assert first == second
