import io
import threading
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ml.errors import DataError
from ml.features import collaborative_folds
from ml.features.collaborative import CollaborativeConfig, Part, parts_of
from ml.features.collaborative_folds import CollaborativeFolds
from ml.features.ease import EaseConfig
from ml.features.factorization import FactorizationConfig
from ml.features.feature_map import FeatureMap
from ml.features.sides import Sides
from ml.features.splits import split_interactions
from tests.collaborative import fit_tables
from tests.feature_maps import encode_interactions

FIRST = CollaborativeConfig(
    factorizations={
        "same": FactorizationConfig(factors=2, iterations=2),
        "like": FactorizationConfig(factors=2, iterations=2, target="label"),
    },
    exposure_factors=3,
    affinity_fields=("genre1",),
    folds=3,
    stranger_share=0,
)
# "same" under another name, and another factorization under its name
SECOND = CollaborativeConfig(
    factorizations={
        "same": FactorizationConfig(factors=3, iterations=2),
        "renamed": FactorizationConfig(factors=2, iterations=2),
    },
    ease={"ease_4": EaseConfig(rank=4, penalty=20)},
    folds=3,
    stranger_share=0,
)
STATISTICS = 6


@pytest.fixture(scope="module")
def train(small_interactions: pd.DataFrame, small_feature_map: FeatureMap) -> pd.DataFrame:
    return split_interactions(encode_interactions(small_interactions, small_feature_map))[0]


@pytest.fixture(scope="module")
def sides(small_feature_map: FeatureMap, small_users: pd.DataFrame, small_movies: pd.DataFrame) -> Sides:
    return Sides.of(small_feature_map, small_users, small_movies)


@pytest.fixture(scope="module")
def folds(train: pd.DataFrame, sides: Sides) -> CollaborativeFolds:
    return CollaborativeFolds.fit(train, sides, [FIRST, SECOND])


@pytest.mark.parametrize("config", [FIRST, SECOND])
def test_every_network_gets_its_own_features_in_its_order(
    folds: CollaborativeFolds, train: pd.DataFrame, sides: Sides, config: CollaborativeConfig
) -> None:
    found, expected = folds.tables(config), fit_tables(train, sides, config)
    assert (found.names, found.widths) == (expected.names, expected.widths)
    assert found.users.tolist() == expected.users.tolist()
    assert found.movies.tolist() == expected.movies.tolist()
    features = folds.out_of_fold(config, train)
    own = np.arange(len(train)) % 3 == 1
    assert features[own].tolist() == fit_tables(train[~own], sides, config).of(train[own]).tolist()


def test_equal_features_are_fitted_once(train: pd.DataFrame, sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    fitted: list[str] = []
    fit = Part.fit

    def counted(part: Part, *arguments: Any) -> Any:
        fitted.append(part.key)
        return fit(part, *arguments)

    monkeypatch.setattr(Part, "fit", counted)
    found = CollaborativeFolds.fit(train, sides, [FIRST, SECOND, FIRST])
    distinct = {part.key for config in (FIRST, SECOND) for part in parts_of(config)}
    assert len(distinct) == 2 + 1 + 1 + 2 - 1 + 1 + STATISTICS
    assert sorted(fitted) == sorted([*distinct] * 4)  # without each of three folds, and on all rows
    assert found.fits == len(fitted)


def test_other_folds_are_fitted_besides(train: pd.DataFrame, sides: Sides) -> None:
    plain = CollaborativeConfig(folds=2)
    found = CollaborativeFolds.fit(train, sides, [plain, plain.model_copy(update={"folds": 3})])
    assert found.fits == STATISTICS * (2 + 3 + 1)  # the tables of all rows are the same


def test_a_share_of_the_users_are_strangers_to_the_tables_of_their_rows(train: pd.DataFrame, sides: Sides) -> None:
    config = CollaborativeConfig(folds=3, stranger_share=0.2)
    folds = CollaborativeFolds.fit(train, sides, [config])
    counts = folds.out_of_fold(config, train)[:, folds.tables(config).names.index("user_log_count")]
    by_user = pd.Series(counts).groupby(train["user_id"].to_numpy())
    strangers = by_user.max() == 0
    assert 0.1 < strangers.mean() < 0.3
    assert (by_user.min()[~strangers] > 0).all()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing(folds: CollaborativeFolds, train: pd.DataFrame, sides: Sides, threads: int) -> None:
    again = CollaborativeFolds.fit(train, sides, [FIRST, SECOND], threads)
    assert again.to_bytes() == folds.to_bytes()


def test_features_are_fitted_in_several_threads_but_for_memory(
    train: pd.DataFrame, sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: set[str] = set()
    both = threading.Barrier(2)

    def meet(part: Part, *_: Any) -> Any:
        both.wait(10)
        names.add(threading.current_thread().name)
        return np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32)

    monkeypatch.setattr(Part, "fit", meet)
    monkeypatch.setattr(collaborative_folds, "available_processors", lambda: 2)
    CollaborativeFolds.fit(train, sides, [CollaborativeConfig(folds=3)])
    assert len(names) == 2
    monkeypatch.setattr(collaborative_folds, "available_processors", lambda: 64)
    assert collaborative_folds._threads(movies=3883, with_ease=True) == 17
    assert collaborative_folds._threads(movies=50_000, with_ease=True) == 4
    assert collaborative_folds._threads(movies=50_000, with_ease=False) == 64


def test_a_file_holds_them_without_pickle(folds: CollaborativeFolds, train: pd.DataFrame) -> None:
    data = folds.to_bytes()
    again = CollaborativeFolds.from_bytes(data, "a file")
    assert (again.rows, again.shape, again.fits) == (len(train), folds.shape, folds.fits)
    for config in (FIRST, SECOND):
        assert again.out_of_fold(config, train).tolist() == folds.out_of_fold(config, train).tolist()
        assert again.tables(config).names == folds.tables(config).names
    assert again.to_bytes() == data
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        fitted = [array for name, array in arrays.items() if name.endswith(("-users", "-movies"))]
        assert len(fitted) == 2 * folds.fits
        assert {array.dtype for array in fitted} == {np.dtype(np.float32)}


def test_a_data_set_without_such_recipes_has_an_empty_file(train: pd.DataFrame, sides: Sides) -> None:
    again = CollaborativeFolds.from_bytes(CollaborativeFolds.fit(train, sides, []).to_bytes(), "a file")
    assert (again.rows, again.shape, again.fits) == (len(train), sides.shape, 0)


def pickled() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, sizes=np.array([print, 1, 2], dtype=object))
    return buffer.getvalue()


def plain_array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.arange(3))
    return buffer.getvalue()


@pytest.mark.parametrize("data", [b"", b"PK nothing", pickled(), plain_array()], ids=["empty", "text", "pickle", "npy"])
def test_another_file_is_refused(data: bytes) -> None:
    with pytest.raises(DataError, match=r"^here\.npz: not a file of collaborative features .*rebuild it"):
        CollaborativeFolds.from_bytes(data, "here.npz")


def test_half_a_file_is_refused(folds: CollaborativeFolds) -> None:
    data = folds.to_bytes()
    with pytest.raises(DataError, match=r"^here\.npz: not a file of collaborative features"):
        CollaborativeFolds.from_bytes(data[: len(data) // 2], "here.npz")
    middle = len(data) // 2
    with pytest.raises(DataError, match=r"^here\.npz: not a file of collaborative features"):
        CollaborativeFolds.from_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :], "here.npz")


def test_features_that_are_not_there_are_named(folds: CollaborativeFolds, train: pd.DataFrame) -> None:
    other = CollaborativeConfig(factorizations={"other": FactorizationConfig(factors=5)}, folds=3)
    with pytest.raises(DataError, match=r"lack other \(factorization .*\"factors\":5.* on all training rows; rebuild"):
        folds.tables(other)
    more_folds = FIRST.model_copy(update={"folds": 4})
    assert [folds.has(config) for config in (FIRST, SECOND, other, more_folds)] == [True, True, False, False]
    assert folds.tables(more_folds).names == folds.tables(FIRST).names
    with pytest.raises(DataError, match=r"lack the training rows' folds-4-strangers-0; rebuild"):
        folds.out_of_fold(more_folds, train)


def test_rows_of_another_number_need_sources(folds: CollaborativeFolds, train: pd.DataFrame) -> None:
    with pytest.raises(DataError, match=f"found 10 rows without sources; expected the {len(train)} training rows"):
        folds.out_of_fold(FIRST, train.head(10))


def test_other_training_rows_are_refused(folds: CollaborativeFolds, train: pd.DataFrame, sides: Sides) -> None:
    folds.require(len(train), *sides.shape)
    with pytest.raises(
        DataError, match=rf"on {len(train)} training rows, .*; expected {len(train)}, {sides.shape[0] + 1} "
    ):
        folds.require(len(train), sides.shape[0] + 1, sides.shape[1])
