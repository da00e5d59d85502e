import pandas as pd
import pytest

from ml.evaluation.changes import list_changes


def lists(**movies: list[int]) -> pd.DataFrame:
    """Lists of users u1, u2, ..., best movie first."""
    rows = [(int(user[1:]), rank, movie) for user, own in movies.items() for rank, movie in enumerate(own, start=1)]
    return pd.DataFrame(rows, columns=["user_id", "rank", "movie_id"])


def test_the_same_lists_have_not_changed() -> None:
    top = lists(u1=[7, 8], u2=[9, 7])
    assert list_changes(top, top.sample(frac=1, random_state=0)) == {"changed_places": 0, "new_movies": 0}


def test_movies_that_change_places_are_not_new() -> None:
    # Of eight places, two were swapped and one has a movie that was only in the other user's list.
    before = lists(u1=[1, 2, 3, 4], u2=[5, 6, 7, 8])
    after = lists(u1=[2, 1, 3, 5], u2=[5, 6, 7, 8])
    assert list_changes(before, after) == {"changed_places": 3 / 8, "new_movies": 1 / 8}


def test_a_user_without_earlier_list_is_all_new() -> None:
    assert list_changes(lists(u1=[1]), lists(u1=[1], u2=[1, 2, 3])) == {"changed_places": 0.75, "new_movies": 0.75}


def test_earlier_lists_may_be_longer_or_none() -> None:
    assert list_changes(lists(u1=[1, 2, 3]), lists(u1=[1, 2])) == {"changed_places": 0, "new_movies": 0}
    assert list_changes(lists(), lists(u1=[1, 2])) == {"changed_places": 1, "new_movies": 1}


def test_no_later_lists_are_refused() -> None:
    with pytest.raises(ValueError, match="no later lists"):
        list_changes(lists(u1=[1]), lists())
