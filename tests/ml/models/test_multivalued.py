from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from ml.models.autoint import Inputs, Multivalued, build_model
from ml.models.config import AutoIntConfig
from ml.models.multivalued import MultivaluedEmbedding

MEMBERSHIP = np.array([[0.5, 0.5, 0], [0, 0, 1], [0, 0, 0], [1, 0, 0]], np.float32)
TABLE = np.array([[1, 2], [3, -4], [5, 6]], np.float32)


def built(membership: np.ndarray | None = None, **arguments: Any) -> MultivaluedEmbedding:
    layer = MultivaluedEmbedding(**{"position": 1, "shape": (4, 3), "embed_dim": 2, **arguments})
    layer.build((None, 3))
    if membership is not None:
        layer.membership.assign(membership)
    return layer


def test_means_by_hand() -> None:
    layer = built(MEMBERSHIP)
    layer.table.assign(TABLE)
    output = np.asarray(layer(np.array([[9, 0, 9], [9, 1, 9], [9, 2, 9], [0, 3, 0]], np.int32)))
    assert output.tolist() == [[[2, -1]], [[5, 6]], [[0, 0]], [[1, 2]]]


def test_zeros_until_assigned() -> None:
    layer = built()
    assert np.asarray(layer.membership).tolist() == np.zeros((4, 3)).tolist()
    assert np.asarray(layer(np.array([[0, 1, 0]]))).tolist() == [[[0, 0]]]


def test_only_the_table_is_trained() -> None:
    layer = built()
    assert [(weight.name, weight.shape) for weight in layer.trainable_weights] == [("table", (3, 2))]
    assert [(weight.name, weight.shape) for weight in layer.non_trainable_weights] == [("membership", (4, 3))]


def test_starts_glorot_uniform_by_the_seed() -> None:
    first, again, other = (np.asarray(built(shape=(4, 200), embed_dim=16, seed=seed).table) for seed in (1, 1, 2))
    limit = np.sqrt(6 / (200 + 16))
    assert 0.99 * limit < np.abs(first).max() <= limit
    np.testing.assert_array_equal(first, again)
    assert not np.isin(first, other).any()


def test_symbolic_shape() -> None:
    assert MultivaluedEmbedding(2, (4, 3), embed_dim=5)(keras.Input((3,), dtype="int32")).shape == (None, 1, 5)


def test_config_round_trip() -> None:
    layer = MultivaluedEmbedding(position=2, shape=(4, 3), embed_dim=5, seed=7)
    config = layer.get_config()
    assert {name: config[name] for name in ("position", "shape", "embed_dim", "seed")} == {
        "position": 2,
        "shape": (4, 3),
        "embed_dim": 5,
        "seed": 7,
    }
    assert MultivaluedEmbedding.from_config(config).get_config() == config


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"position": -1}, "position.*-1"),
        ({"shape": (4,)}, r"shape.*\(4,\)"),
        ({"shape": (4, 0)}, r"shape.*\(4, 0\)"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        built(**arguments)


def test_too_few_fields_are_refused() -> None:
    with pytest.raises(ValueError, match=r"more than 1\].*\(5, 1\)"):
        MultivaluedEmbedding(1, (4, 3))(np.zeros((5, 1), np.int32))


class TestInANetwork:
    FIELD_DIMS = (5, 4, 3)
    CONFIG = AutoIntConfig(embed_dim=2, num_layers=1, head_dim=2)
    GENRES = Multivalued("genres", 1, MEMBERSHIP)
    TAGS = Multivalued("tags", 0, np.eye(5, 3, dtype=np.float32))
    CODES = np.array([[0, 1, 2], [4, 0, 0], [3, 2, 1]], np.int32)
    NUMBERS = np.array([[0.5], [1.0], [-2.0]], np.float32)

    def network(self, *multivalued: Multivalued) -> keras.Model:
        inputs = Inputs(self.FIELD_DIMS, positions=[2, 1], centres=[0.5], scales=[2.0], multivalued=multivalued)
        return build_model("autoint", inputs, self.CONFIG, seed=1)

    def test_tokens_of_fields_then_multivalued_then_numbers(self) -> None:
        network = self.network(self.GENRES, self.TAGS)
        tokens = np.asarray(keras.Model(network.inputs, network.get_layer("tokens").output)([self.CODES, self.NUMBERS]))
        genres, tags = (network.get_layer(f"{name}_embedding") for name in ("genres", "tags"))
        fields = network.get_layer("embedding")(self.CODES[:, [2, 1]])
        numbers = network.get_layer("numbers")(self.NUMBERS)
        np.testing.assert_array_equal(tokens[:, :2], fields)
        np.testing.assert_allclose(tokens[:, 2], MEMBERSHIP[self.CODES[:, 1]] @ np.asarray(genres.table), rtol=1e-6)
        np.testing.assert_allclose(tokens[:, 3], self.TAGS.membership[self.CODES[:, 0]] @ np.asarray(tags.table))
        np.testing.assert_array_equal(tokens[:, 4:], numbers)
        assert not np.allclose(genres.table, tags.table)

    def test_without_numbers(self) -> None:
        network = build_model("autoint", Inputs(self.FIELD_DIMS, multivalued=(self.GENRES,)), self.CONFIG, seed=1)
        assert network.get_layer("tokens").output.shape == (None, 4, 2)
        assert np.asarray(network(self.CODES)).shape == (3, 1)

    def test_other_weights_start_as_without(self) -> None:
        plain, changed = (
            {weight.path: weight for weight in network.weights}
            for network in (self.network(), self.network(self.GENRES))
        )
        assert changed.keys() - plain.keys() == {"genres_embedding/table", "genres_embedding/membership"}
        for path in plain.keys() - {"logit/kernel"}:  # which has a row for every token's numbers
            np.testing.assert_array_equal(changed[path], plain[path])

    def test_reloads_equal(self, tmp_path: Path) -> None:
        network = self.network(self.GENRES)
        network.save(tmp_path / "network.keras")
        loaded = keras.saving.load_model(tmp_path / "network.keras", compile=False)
        np.testing.assert_array_equal(loaded.get_layer("genres_embedding").membership, MEMBERSHIP)
        np.testing.assert_array_equal(loaded([self.CODES, self.NUMBERS]), network([self.CODES, self.NUMBERS]))

    @pytest.mark.parametrize("position", [0, -2, 3])
    def test_a_membership_of_another_field_is_refused(self, position: int) -> None:
        with pytest.raises(ValueError, match=rf"genres.*position {position}, got 4 rows.*\(5, 4, 3\)"):
            self.network(Multivalued("genres", position, MEMBERSHIP))
