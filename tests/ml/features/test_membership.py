import numpy as np
import pandas as pd
import pytest

from ml.errors import DataError
from ml.features.feature_map import FieldVocabulary
from ml.features.membership import membership_of


def vocabulary(*values: str) -> FieldVocabulary:
    return FieldVocabulary("genres", "movie", "multivalued", values=values)


def test_shares_by_hand() -> None:
    genres = pd.Series(["Comedy|Drama", "Drama", "", "War|Comedy|Sci-Fi|Drama"], index=[7, 7, 0, 3])
    membership = membership_of(genres, vocabulary("Drama", "Sci-Fi", "Comedy", "Noir", "War"))
    assert membership.dtype == np.float32
    assert membership.tolist() == [[0.5, 0, 0.5, 0, 0], [1, 0, 0, 0, 0], [0] * 5, [0.25, 0.25, 0.25, 0, 0.25]]


def test_thirds_add_up() -> None:
    assert membership_of(pd.Series(["a|b|c"]), vocabulary("a", "b", "c")).sum() == np.float32(1)


def test_a_value_named_twice_counts_once() -> None:
    membership = membership_of(pd.Series(["a|b|a", "|b|"]), vocabulary("a", "b"))
    assert membership.tolist() == [[0.5, 0.5], [0, 1]]


def test_nothing() -> None:
    for items in ([], ["", ""]):
        assert membership_of(pd.Series(items, dtype="str"), vocabulary()).shape == (len(items), 0)


def test_an_unknown_value_is_named() -> None:
    with pytest.raises(DataError, match="genres 'War' is unknown; expected one of Comedy, Drama"):
        membership_of(pd.Series(["Drama|War"]), vocabulary("Comedy", "Drama"))
