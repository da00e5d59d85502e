import numpy as np
import pandas as pd
import pytest

from ml.data.history import base_rows, history, present, present_in_blocks


def ratings(*rows: tuple[int, int, int, int]) -> pd.DataFrame:
    types = {"user_id": "int32", "movie_id": "int32", "rating": "int8", "timestamp": "int64"}
    return pd.DataFrame(rows, columns=list(types)).astype(types)


def ingested(*rows: tuple[int, int, int, int, int, str]) -> pd.DataFrame:
    """user_id, movie_id, rating, timestamp, batch, date."""
    own = ratings(*(row[:4] for row in rows))
    return own.assign(ingestion_batch=np.array([row[4] for row in rows], np.int32), date=[row[5] for row in rows])


BASE = ratings((1, 10, 3, 100), (2, 10, 4, 200), (1, 20, 5, 300))


def held(frame: pd.DataFrame) -> list[tuple[object, ...]]:
    columns = ["user_id", "movie_id", "rating", "timestamp", "ingestion_batch", "first_ingestion_batch"]
    return list(frame[columns].itertuples(index=False, name=None))


def test_without_batches_the_base_rows_are_current() -> None:
    rows = present(history(BASE, ingested().astype({"date": "str"})), ["user_id", "movie_id"], ["timestamp"])
    assert held(rows) == [(1, 10, 3, 100, 0, 0), (2, 10, 4, 200, 0, 0), (1, 20, 5, 300, 0, 0)]
    types = rows.dtypes.astype(str)
    assert types[["user_id", "rating", "ingestion_batch", "first_ingestion_batch"]].tolist() == [
        "int32",
        "int8",
        "int32",
        "int32",
    ]


def test_the_latest_rating_is_current_and_new_pairs_follow() -> None:
    came = ingested(
        (3, 10, 1, 500, 1, "2003-03-01"),  # new
        (1, 10, 5, 400, 1, "2003-03-01"),  # rated again
        (2, 10, 1, 150, 2, "2003-02-01"),  # late, and earlier than the base rating
        (3, 10, 2, 450, 3, "2003-02-02"),  # late, between
    )
    rows = present(history(BASE, came), ["user_id", "movie_id"], ["timestamp"])
    assert held(rows) == [(1, 10, 5, 400, 1, 0), (2, 10, 4, 200, 0, 0), (1, 20, 5, 300, 0, 0), (3, 10, 1, 500, 1, 1)]


def test_ties_are_resolved_by_date_then_batch_then_line() -> None:
    came = ingested(
        (1, 10, 1, 100, 1, "2003-03-02"),
        (1, 10, 2, 100, 2, "2003-03-01"),
        (2, 10, 1, 200, 3, "2003-03-01"),
        (2, 10, 2, 200, 4, "2003-03-01"),
        (2, 10, 5, 200, 4, "2003-03-01"),
    )
    rows = present(history(BASE, came), ["user_id", "movie_id"], ["timestamp"])
    assert held(rows)[:2] == [(1, 10, 1, 100, 1, 0), (2, 10, 5, 200, 4, 0)]


def test_the_row_with_the_latest_file_date_is_current_for_users() -> None:
    base = pd.DataFrame({"user_id": [1, 2], "zip": ["a", "b"]})
    dates = ["2003-03-02", "2003-03-02", "2003-03-01"]
    came = pd.DataFrame({"user_id": [2, 3, 2], "zip": ["c", "d", "e"], "ingestion_batch": [1, 1, 2], "date": dates})
    rows = present(history(base, came), ["user_id"])
    assert rows[["user_id", "zip"]].to_numpy().tolist() == [[1, "a"], [2, "c"], [3, "d"]]


def test_base_rows_of_a_history() -> None:
    rows = history(BASE, ingested((1, 10, 5, 400, 1, "2003-03-01")))
    assert len(rows) == 4
    pd.testing.assert_frame_equal(base_rows(rows)[list(BASE)], BASE)


def test_order_of_arrival_does_not_change_the_current_rows() -> None:
    rng, key = np.random.default_rng(1), ["user_id", "movie_id"]
    pairs = [(int(u), int(m), int(r), int(t)) for u, m, r, t in zip(*(rng.integers(1, 6, (4, 60))), strict=True)]
    files = [(pairs[at : at + 10], f"2003-03-{at // 10 + 1:02d}") for at in range(0, 60, 10)]

    def after(order: list[int]) -> pd.DataFrame:
        rows = [(*row, number, files[at][1]) for number, at in enumerate(order, 1) for row in files[at][0]]
        found = present(history(BASE, ingested(*rows)), key, ["timestamp"])
        return found[list(BASE)].sort_values(key, ignore_index=True)

    for _ in range(5):
        pd.testing.assert_frame_equal(after(rng.permutation(6).tolist()), after([0, 1, 2, 3, 4, 5]))


@pytest.mark.parametrize("came", [0, 1, 40, 400])
@pytest.mark.parametrize("block", [1, 7, 200])
def test_in_blocks_the_same_rows_are_current(came: int, block: int) -> None:
    draws = np.random.default_rng(came)
    pairs = draws.choice(400, 150, replace=False)
    base = ratings(*((pair // 20, pair % 20, 1, draws.integers(5)) for pair in pairs))
    later = ingested(
        *(
            (*divmod(int(draws.integers(400)), 20), draws.integers(1, 6), draws.integers(5), batch, f"2003-03-0{day}")
            for batch, day in zip(range(1, came + 1), draws.integers(1, 4, came), strict=True)
        )
    ).astype({"date": "str"})
    blocks = (base.iloc[start : start + block] for start in range(0, len(base), block))
    found = pd.concat(present_in_blocks(blocks, later, ["user_id", "movie_id"], "timestamp"), ignore_index=True)
    pd.testing.assert_frame_equal(found, present(history(base, later), ["user_id", "movie_id"], ["timestamp"]))
