import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from ml.features.splits import SPLITS, Split, split_interactions, splittable

# By time, equal times in file order: rows 3, 7, 1, 5, 9, 0, 2, 8, 4, 6.
TIMES = [50, 20, 60, 10, 90, 20, 95, 10, 60, 40]


def table(times: list[int] | np.ndarray = TIMES) -> pd.DataFrame:
    """Rows of rating 4 at these times."""
    rows = len(times)
    return pd.DataFrame({"movie_id": np.arange(rows) * 10, "timestamp": np.asarray(times, dtype=np.int64), "rating": 4})


def random_table(rows: int) -> pd.DataFrame:
    return table(np.random.default_rng(0).integers(0, rows // 2, rows))


def rated_table(rows: int) -> pd.DataFrame:
    """Rows of all ratings."""
    return random_table(rows).assign(rating=np.random.default_rng(1).integers(1, 6, rows).astype(np.int8))


@pytest.mark.parametrize("rows", [10, 11, 997])
@pytest.mark.parametrize("share", [0.2, 0.25, 0.5])
@pytest.mark.parametrize("seed", [42, 7])
def test_random_split_is_that_of_scikit_learn(rows: int, share: float, seed: int) -> None:
    interactions = random_table(rows)
    parts = split_interactions(interactions, "random", share, seed)
    expected = train_test_split(interactions, test_size=share, random_state=seed)
    for part, wanted in zip(parts, expected, strict=True):
        assert part["row"].tolist() == wanted.index.tolist()
        pd.testing.assert_frame_equal(part.drop(columns="row"), wanted.reset_index(drop=True))


def test_random_is_the_default_with_a_fifth_to_test_on_and_seed_42() -> None:
    interactions = random_table(100)
    for part, wanted in zip(
        split_interactions(interactions), split_interactions(interactions, "random", 0.2, 42), strict=True
    ):
        pd.testing.assert_frame_equal(part, wanted)


def test_sequential_split_by_hand() -> None:
    train, test = split_interactions(table(), "sequential")
    assert sorted(train["row"]) == [0, 1, 2, 3, 4, 5, 6, 7]
    assert test["row"].tolist() == [8, 9]


def test_paper_split_leaves_out_the_threes_by_hand() -> None:
    interactions = table().assign(rating=[5, 3, 1, 2, 3, 4, 3, 3, 2, 1])
    train, test = split_interactions(interactions, "paper", 0.5)
    assert sorted([*train["row"], *test["row"]]) == [0, 2, 3, 5, 8, 9]
    assert (len(train), len(test)) == (3, 3)
    for part in (train, test):
        assert part["movie_id"].tolist() == [row * 10 for row in part["row"]]
        assert 3 not in set(part["rating"])


@pytest.mark.parametrize("seed", [42, 7])
def test_paper_split_is_the_random_one_of_the_rows_of_other_ratings(seed: int) -> None:
    interactions = rated_table(997)
    parts = split_interactions(interactions, "paper", 0.2, seed)
    expected = train_test_split(interactions[interactions["rating"] != 3], test_size=0.2, random_state=seed)
    for part, wanted in zip(parts, expected, strict=True):
        assert part["row"].tolist() == wanted.index.tolist()
        pd.testing.assert_frame_equal(part.drop(columns="row"), wanted.reset_index(drop=True))


def test_paper_split_tests_on_a_tenth_unless_told() -> None:
    interactions = rated_table(300)
    for part, wanted in zip(
        split_interactions(interactions, "paper"), split_interactions(interactions, "paper", 0.1, 42), strict=True
    ):
        pd.testing.assert_frame_equal(part, wanted)


def test_other_strategies_keep_the_threes() -> None:
    interactions = rated_table(500)
    for strategy in SPLITS[:3]:
        parts = split_interactions(interactions, strategy)
        assert sum((part["rating"] == 3).sum() for part in parts) == (interactions["rating"] == 3).sum() > 50


@pytest.mark.parametrize("strategy", SPLITS)
def test_splittable_rows_are_those_that_are_split(strategy: Split) -> None:
    interactions = rated_table(300)
    found = splittable(interactions, strategy)
    train, test = split_interactions(interactions, strategy)
    assert (found.shape, found.dtype) == ((300,), np.bool_)
    assert np.flatnonzero(found).tolist() == sorted([*train["row"], *test["row"]])
    assert found.tolist() == [strategy != "paper" or rating != 3 for rating in interactions["rating"]]


def test_temporal_split_by_hand() -> None:
    train, test = split_interactions(table(), "temporal", 0.4)
    assert sorted(train["row"]) == [0, 1, 3, 5, 7, 9]
    assert test["row"].tolist() == [2, 8, 4, 6]
    assert train["timestamp"].max() <= test["timestamp"].min()


def test_temporal_split_breaks_ties_by_file_order() -> None:
    train, test = split_interactions(table([7] * 10), "temporal", 0.3)
    assert sorted(train["row"]) == [0, 1, 2, 3, 4, 5, 6]
    assert test["row"].tolist() == [7, 8, 9]


@pytest.mark.parametrize("strategy", SPLITS)
def test_parts_are_disjoint_and_whole(strategy: Split) -> None:
    interactions = random_table(501)
    train, test = split_interactions(interactions, strategy)
    assert sorted([*train["row"], *test["row"]]) == list(range(501))
    for part in (train, test):
        assert part.index.tolist() == list(range(len(part)))
        assert part["row"].dtype == np.int64
        expected = interactions.iloc[part["row"]].reset_index(drop=True)
        pd.testing.assert_frame_equal(part.drop(columns="row"), expected)


@pytest.mark.parametrize("strategy", SPLITS)
def test_training_rows_come_shuffled(strategy: Split) -> None:
    train, _ = split_interactions(table(np.arange(500)), strategy)
    assert train["row"].tolist() != sorted(train["row"])
    tail = train["row"].tail(40)
    assert tail.min() < 250 < tail.max()


@pytest.mark.parametrize("strategy", SPLITS)
def test_split_depends_on_nothing_but_the_seed(strategy: Split) -> None:
    interactions = random_table(200)
    first, again, other = (split_interactions(interactions, strategy, seed=seed)[0] for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first, again)
    assert first["row"].tolist() != other["row"].tolist()


@pytest.mark.parametrize("strategy", ["sequential", "temporal"])
def test_seed_moves_no_row_to_the_other_part(strategy: Split) -> None:
    interactions = random_table(200)
    (train, test), (other_train, other_test) = (split_interactions(interactions, strategy, seed=s) for s in (1, 2))
    assert set(train["row"]) == set(other_train["row"])
    assert test["row"].tolist() == other_test["row"].tolist()


@pytest.mark.parametrize("strategy", SPLITS)
def test_sizes_of_the_full_data_set(strategy: Split) -> None:
    interactions = pd.DataFrame({"timestamp": np.arange(1_000_209) % 1000, "rating": 5})
    train, test = split_interactions(interactions, strategy)
    assert (len(train), len(test)) == ((900_188, 100_021) if strategy == "paper" else (800_167, 200_042))


@pytest.mark.parametrize("strategy", SPLITS)
@pytest.mark.parametrize(("rows", "share", "test_rows"), [(10, 0.9, 9), (10, 0.1, 1), (11, 0.2, 3), (100, 0.9, 90)])
def test_strategies_agree_on_the_sizes(strategy: Split, rows: int, share: float, test_rows: int) -> None:
    train, test = split_interactions(random_table(rows), strategy, share)
    assert (len(train), len(test)) == (rows - test_rows, test_rows)


def grown_table(base: int, *batches: int) -> pd.DataFrame:
    """Base rows and the rows of some batches, by their numbers of rows."""
    numbers = np.repeat(np.arange(len(batches) + 1), (base, *batches))
    return table(np.arange(len(numbers))).assign(first_ingestion_batch=numbers.astype(np.int32))


def test_rows_stay_on_their_side_as_others_come() -> None:
    sides: dict[int, str] = {}
    for batches in ((), (300,), (300, 1), (300, 1, 50)):
        interactions = grown_table(200, *batches)
        train, test = split_interactions(interactions)
        assert sorted([*train["row"], *test["row"]]) == list(range(len(interactions)))
        now = dict.fromkeys(train["row"], "train") | dict.fromkeys(test["row"], "test")
        assert {row: now[row] for row in sides} == sides
        sides = now
    of_first = [sides[row] for row in range(200, 500)]
    assert 0.1 < of_first.count("test") / 300 < 0.3
    before, _ = split_interactions(table(np.arange(200)))
    assert [row for row in split_interactions(grown_table(200, 300))[0]["row"] if row < 200] == before["row"].tolist()


def test_delivered_rows_stand_among_the_others() -> None:
    train, _ = split_interactions(grown_table(500, 500))
    tail = train["row"].tail(100)
    assert 30 < (tail >= 500).sum() < 70


@pytest.mark.parametrize("strategy", ["Random", "time", ""])
def test_unknown_strategy_is_refused(strategy: str) -> None:
    with pytest.raises(
        ValueError, match=f"split strategy '{strategy}'; expected one of random, sequential, temporal, paper"
    ):
        split_interactions(table(), strategy)  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", SPLITS)
@pytest.mark.parametrize("share", [0, 1, -0.2, 1.5, 20, float("nan")])
def test_share_outside_0_to_1_is_refused(strategy: Split, share: float) -> None:
    with pytest.raises(ValueError, match=f"test_share {share}; expected a share between 0 and 1"):
        split_interactions(table(), strategy, share)
