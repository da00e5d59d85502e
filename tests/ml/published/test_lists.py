from pathlib import Path

import pandas as pd
import pytest
from upath import UPath

from ml.errors import DataError, NotFoundError
from ml.published.lists import PublishedLists


@pytest.fixture
def table() -> pd.DataFrame:
    rows = [(5, 1, 20), (5, 2, 10), (2, 2, 30), (2, 1, 10)]
    return pd.DataFrame(rows, columns=["user_id", "rank", "movie_id"]).assign(
        title="A", genres="Drama", score=0.5, rating_year=2003, rating_month=2, model="autoint", model_version="7"
    )


def test_list_of_one_user_is_by_rank(table: pd.DataFrame, tmp_path: Path) -> None:
    table.to_parquet(tmp_path / "top10.parquet")
    lists = PublishedLists.load(UPath(tmp_path / "top10.parquet"), "7")
    assert (lists.year, lists.month, lists.users.tolist()) == (2003, 2, [2, 5])
    assert lists.of(2)["movie_id"].tolist() == [10, 30]
    assert lists.of(5)["movie_id"].tolist() == [20, 10]


@pytest.mark.parametrize("user", [1, 3, 6])
def test_user_without_a_list_is_refused_with_those_that_have_one(
    user: int, table: pd.DataFrame, tmp_path: Path
) -> None:
    table.to_parquet(tmp_path / "top10.parquet")
    with pytest.raises(NotFoundError, match=f"unknown user_id {user}; there are lists of 2 users from 2 to 5"):
        PublishedLists.load(UPath(tmp_path / "top10.parquet"), "7").of(user)


@pytest.mark.parametrize("rows", [[0], [0, 1, 2, 3]])
def test_table_of_another_version_is_refused(rows: list[int], table: pd.DataFrame, tmp_path: Path) -> None:
    table.loc[rows, "model_version"] = "8"
    table.to_parquet(tmp_path / "top10.parquet")
    with pytest.raises(DataError, match=r"expected lists of version 7 for one month, found .*'model_version': '8'"):
        PublishedLists.load(UPath(tmp_path / "top10.parquet"), "7")


@pytest.mark.parametrize("content", [b"", b"nothing of the kind"])
def test_damaged_table_is_refused_with_what_to_do(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "top10.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"top10\.parquet: found no Parquet table with the columns user_id, .*make run"):
        PublishedLists.load(UPath(tmp_path / "top10.parquet"), "7")


def test_strings_are_sorted_and_found_literally(table: pd.DataFrame, tmp_path: Path) -> None:
    named = table.assign(user_id=table["user_id"].map({5: "B", 2: "a"}), movie_id=table["movie_id"].astype("str"))
    named.to_parquet(tmp_path / "top10.parquet")
    lists = PublishedLists.load(UPath(tmp_path / "top10.parquet"), "7")
    assert lists.users.tolist() == ["B", "a"]  # by code point
    assert lists.of("a")["movie_id"].tolist() == ["10", "30"]
    assert lists.of("B")["movie_id"].tolist() == ["20", "10"]
    for unknown in ("A", "b", " a", 2):
        with pytest.raises(NotFoundError) as caught:
            lists.of(unknown)
        assert caught.value.args[0] == f"unknown user_id {unknown!r}; there are lists of 2 users from 'B' to 'a'"
