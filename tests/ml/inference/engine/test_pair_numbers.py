import numpy as np

from ml.features.collaborative_tables import CollaborativeTables
from ml.inference.engine.pair_numbers import PairNumbers
from ml.models.autoint import Inputs, build_model, with_collaborative
from ml.models.config import AutoIntConfig

USERS = np.array([[1, 2, 3], [0, -1, 2]], np.float32)
MOVIES = np.array([[1, 1, 1], [2, 0, 1], [0, 3, -1]], np.float32)
# The first feature has two columns, the second one.
EXPECTED = np.array([[[3, 2, 6], [3, 3, -3]], [[-1, 0, -3], [2, 2, -2]]], np.float32)  # [users, features, movies]


def numbers() -> PairNumbers:
    config = AutoIntConfig(embed_dim=2, num_layers=1, num_heads=1, head_dim=2)
    network = build_model("autoint", Inputs((5, 3, 2), [0], centres=[0.0, 1.0], scales=[1.0, 2.0]), config, seed=0)
    return PairNumbers(with_collaborative(network, CollaborativeTables(("a", "b"), (2, 1), USERS, MOVIES), (2, 1)))


def test_rows() -> None:
    rows = np.array([[4, 0, 0], [0, 2, 0], [1, 1, 1]], np.int32)  # movie and user stand at positions 1 and 2
    assert numbers().of(rows).tolist() == [[3, 3], [6, -3], [0, 2]]
    assert numbers().of(rows[:0]).shape == (0, 2)


def test_grid() -> None:
    assert numbers().positions == (2, 1)
    found = numbers().of_grid(np.array([0, 1]), np.array([0, 1, 2]))
    assert found.tolist() == EXPECTED.tolist()
    assert numbers().of_grid(np.array([1]), np.array([2, 0])).tolist() == [EXPECTED[1][:, [2, 0]].tolist()]
    assert numbers().of_grid(np.array([0, 1]), slice(1, 3)).tolist() == EXPECTED[:, :, 1:3].tolist()


def test_the_right_table_in_another_order() -> None:
    given = numbers()
    ordered = given.with_right(np.array([2, 0, 2, 1]))
    assert ordered.of_grid(np.array([0, 1]), slice(0, 4)).tolist() == EXPECTED[:, :, [2, 0, 2, 1]].tolist()
    assert given.of_grid(np.array([1]), slice(0, 3)).tolist() == [EXPECTED[1].tolist()]


def test_a_network_without_them_has_none() -> None:
    config = AutoIntConfig(embed_dim=2, num_layers=1, num_heads=1, head_dim=2)
    none = PairNumbers(build_model("autoint", Inputs((5, 3, 2)), config, seed=0))
    assert none.of(np.zeros((4, 3), np.int32)).shape == (4, 0)
    assert none.of_grid(np.arange(2), np.arange(3)).shape == (2, 0, 3)
    assert none.of_grid(np.arange(2), slice(1, 3)).shape == (2, 0, 2)
