import pandas as pd
import pytest

from ml.errors import DataError
from ml.schema import LARGEST_ID, LONGEST_ID, Id, IdType, id_type, parse_id


@pytest.mark.parametrize("number", [0, 7, 1_000_000_000, LARGEST_ID])
def test_ids_are_whole_numbers_from_0(number: int) -> None:
    assert parse_id(str(number), int) == number


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1.0", "1_0", "x", "٣", str(LARGEST_ID + 1), "9" * 5000])
def test_what_is_no_id_is_refused_with_the_range(text: str) -> None:
    with pytest.raises(DataError, match=f"is not an id; expected an integer from 0 to {LARGEST_ID}"):
        parse_id(text, int)


@pytest.mark.parametrize("text", ["7", "C-0017", "A/12 blue", " x", "é", "한" * LONGEST_ID])
def test_an_id_that_is_a_string_is_taken_literally(text: str) -> None:
    assert parse_id(text, str) == text


@pytest.mark.parametrize("text", ["", "x" * (LONGEST_ID + 1)])
def test_a_string_has_a_length(text: str) -> None:
    with pytest.raises(DataError, match=f"is not an id; expected 1 to {LONGEST_ID} characters"):
        parse_id(text, str)


@pytest.mark.parametrize(("ids", "expected"), [([1, 2], int), (["1", "2"], str)])
def test_ids_are_integers_or_strings(ids: list[Id], expected: IdType) -> None:
    series = pd.Series(ids)
    assert [id_type(form) for form in (series, pd.Index(ids), series.to_numpy())] == [expected] * 3
