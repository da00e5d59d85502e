import numpy as np
import pandas as pd

from ml.features.membership import membership_of


def test_shares_by_hand() -> None:
    genres = pd.Series(["Comedy|Drama", "Drama", "", "War|Comedy|Sci-Fi|Drama"], index=[7, 7, 0, 3])
    names, membership = membership_of(genres)
    assert names == ("Comedy", "Drama", "Sci-Fi", "War")
    assert membership.dtype == np.float32
    assert membership.tolist() == [[0.5, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0.25, 0.25, 0.25, 0.25]]


def test_thirds_add_up() -> None:
    assert membership_of(pd.Series(["a|b|c"]))[1].sum() == np.float32(1)


def test_a_value_named_twice_counts_once() -> None:
    names, membership = membership_of(pd.Series(["a|b|a", "|b|"]))
    assert names == ("a", "b")
    assert membership.tolist() == [[0.5, 0.5], [0, 1]]


def test_another_separator() -> None:
    assert membership_of(pd.Series(["a|b, c"]), separator=", ")[0] == ("a|b", "c")


def test_nothing() -> None:
    for items in ([], ["", ""]):
        names, membership = membership_of(pd.Series(items, dtype="str"))
        assert names == ()
        assert membership.shape == (len(items), 0)
