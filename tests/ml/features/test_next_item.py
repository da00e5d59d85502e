from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from scipy.special import softmax

from ml.features.collaborative import CollaborativeConfig
from ml.features.collaborative_folds import CollaborativeFolds
from ml.features.histories import Histories
from ml.features.next_item import NextItemConfig, folds_by_time, next_item_columns
from tests.collaborative import without_features

USERS, MOVIES, FOLDS = 4, 7, 3
SIDES = without_features(USERS, MOVIES)
SIGNALS = CollaborativeConfig(sequence={"next": NextItemConfig(embed_dim=2)}, folds=FOLDS)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    """Shuffled rows of all users but the last; some are of the same second."""
    rng = np.random.default_rng(0)
    pairs = [(user, movie) for user in range(USERS - 1) for movie in rng.permutation(MOVIES)[: 5 + user]]
    rows = pd.DataFrame(pairs, columns=["user_id", "movie_id"]).assign(timestamp=lambda own: own.index // 2)
    rows = rows.assign(row=rng.permutation(len(rows)), rating=4.0, label=1)
    return rows.sample(frac=1, random_state=1).reset_index(drop=True)


def learn(histories: Histories, given: Histories, items: int, config: NextItemConfig) -> Any:
    """A state tells how many items were learned from and given; a vector is the item."""
    states = np.column_stack([histories.lengths, given.lengths]).astype(np.float32)
    return states, np.column_stack([np.arange(items), np.ones(items)]).astype(np.float32)


def test_folds_by_time_by_hand() -> None:
    rows = pd.DataFrame(
        {"user_id": [1, 0, 1, 1, 0, 1, 1], "timestamp": [9, 5, 3, 9, 1, 1, 4], "row": [0, 1, 2, 3, 4, 5, 6]}
    )
    # User 1 in the order of time: rows 5, 2 | 6, 0 | 3; user 0: row 4, nothing, row 1.
    assert folds_by_time(rows, 3).tolist() == [1, 1, 0, 2, 0, 0, 1]


def test_products_are_log_odds_of_the_softmax() -> None:
    rng = np.random.default_rng(0)
    states, vectors = rng.normal(size=(600, 3)), rng.normal(size=(5, 3))
    left, right = next_item_columns(states, vectors)
    np.testing.assert_allclose(left @ right.T, np.log(5 * softmax(states @ vectors.T, axis=1)))


def test_a_row_is_predicted_from_earlier_rows_by_a_network_that_did_not_see_its_part(rows: pd.DataFrame) -> None:
    folds = CollaborativeFolds.fit(rows, SIDES, [SIGNALS], learn_next_items=learn)
    again = CollaborativeFolds.from_bytes(folds.to_bytes(), "a file")
    found = again.out_of_fold(SIGNALS, rows)[:, again.tables(SIGNALS).names.index("next")]
    for (user, movie), value in zip(rows[["user_id", "movie_id"]].to_numpy(), found, strict=True):
        own = rows[rows["user_id"] == user].sort_values(["timestamp", "row"])["movie_id"].tolist()
        parts = [place * FOLDS // len(own) for place in range(len(own))]
        part = parts[own.index(movie)]
        learned, before = len(own) - parts.count(part), parts.index(part)
        scores = learned * np.arange(MOVIES) + before
        assert value == pytest.approx(np.log(MOVIES * softmax(scores))[movie], rel=1e-5)


def test_other_rows_are_predicted_from_whole_histories(rows: pd.DataFrame) -> None:
    tables = CollaborativeFolds.fit(rows, SIDES, [SIGNALS], learn_next_items=learn).tables(SIGNALS)
    found = tables.of(pd.DataFrame({"user_id": [1], "movie_id": [4]}))[0, tables.names.index("next")]
    assert found == pytest.approx(np.log(MOVIES * softmax(6.0 * np.arange(MOVIES) + 6))[4], rel=1e-5)


def test_random_folds_of_the_other_features_stay(rows: pd.DataFrame) -> None:
    plain = CollaborativeConfig(folds=FOLDS)
    both = CollaborativeFolds.fit(rows, SIDES, [SIGNALS, plain], learn_next_items=learn)
    alone = CollaborativeFolds.fit(rows, SIDES, [plain])
    np.testing.assert_array_equal(both.out_of_fold(SIGNALS, rows)[:, 1:], alone.out_of_fold(plain, rows))
    assert both.fits == alone.fits + FOLDS + 1


def test_sampled_rows_share_the_fold_of_their_source(rows: pd.DataFrame) -> None:
    folds = CollaborativeFolds.fit(rows, SIDES, [SIGNALS], learn_next_items=learn)
    sources = np.array([3, 0, 3])
    np.testing.assert_array_equal(
        folds.out_of_fold(SIGNALS, rows.iloc[sources], sources), folds.out_of_fold(SIGNALS, rows)[sources]
    )


def test_somebody_must_train_the_network(rows: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="learn_next_items is None"):
        CollaborativeFolds.fit(rows, SIDES, [SIGNALS])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embed_dim": 6, "num_heads": 4}, "num_heads must divide embed_dim, 6; got 4"),
        ({"dropout": 1}, "dropout"),
        ({"epoch": 3}, "epoch"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        CollaborativeConfig.model_validate({"sequence": {"next": settings}})
