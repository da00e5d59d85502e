import numpy as np
import pandas as pd

from ml.features.histories import Histories

ROWS = pd.DataFrame(
    {
        "user_id": [2, 0, 2, 0, 2, 2],
        "movie_id": [7, 3, 5, 1, 6, 4],
        "timestamp": [30, 9, 10, 8, 30, 20],
        "row": [1, 2, 3, 4, 0, 5],
    }
)
HISTORIES = Histories.of(ROWS, users=4)


def lists(histories: Histories) -> list[list[int]]:
    return [histories.user(user).tolist() for user in range(len(histories.lengths))]


def test_items_are_in_the_order_of_time_and_then_of_the_file() -> None:
    assert lists(HISTORIES) == [[1, 3], [], [5, 4, 6, 7], []]
    assert HISTORIES.lengths.tolist() == [2, 0, 4, 0]
    assert lists(Histories.of(ROWS.sample(frac=1, random_state=1), users=4)) == lists(HISTORIES)


def test_last_items_are_left_out() -> None:
    assert lists(HISTORIES.without_last(1)) == [[1], [], [5, 4, 6], []]
    assert lists(HISTORIES.without_last(3)) == [[], [], [5], []]
    assert HISTORIES.last(np.array([2, 0])).tolist() == [7, 3]
