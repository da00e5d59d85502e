import pytest

from ml.errors import DataError
from ml.schema import LARGEST_ID, parse_id


@pytest.mark.parametrize("number", [0, 7, 1_000_000_000, LARGEST_ID])
def test_ids_are_whole_numbers_from_0(number: int) -> None:
    assert parse_id(str(number)) == number


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1.0", "1_0", "x", "٣", str(LARGEST_ID + 1), "9" * 5000])
def test_what_is_no_id_is_refused_with_the_range(text: str) -> None:
    with pytest.raises(DataError, match=f"is not an id; expected an integer from 0 to {LARGEST_ID}"):
        parse_id(text)
