from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ml import schema
from ml.errors import DataError
from ml.evaluation.drift import CHANCE, FLOOR, Bins, compare_nights, index_by_chance, stability_index


def batches(*ingestions: int) -> dict[str, Any]:
    """Return files 1, 2, ..., each with its number of ingestion."""
    return {"files": [{"sequence": number, "ingestion": ingestion} for number, ingestion in enumerate(ingestions, 1)]}


def interactions(rows: Sequence[tuple[int, int, int, int]], **fields: Any) -> pd.DataFrame:
    """Return rows of batch, user, movie and label; other features are constant unless given."""
    table = pd.DataFrame(rows, columns=["ingestion_batch", "user_id", "movie_id", "label"])
    return table.assign(**{name: "x" for name in schema.FIELD_NAMES if name not in table} | fields)


def test_few_values_are_a_bin_each() -> None:
    bins = Bins.of(pd.Series(["b", "a", "b", "c"]))
    assert bins.values.tolist() == ["a", "b", "c"]
    assert bins.bin.tolist() == [0, 1, 2]
    assert bins.count == 4
    assert bins.shares(pd.Series(["a", "c", "c", "new"])).tolist() == [0.25, 0.0, 0.5, 0.25]


def test_many_values_share_bins_of_equal_mass_in_rising_order() -> None:
    values = np.random.default_rng(1).permutation(np.repeat(np.arange(1000), 3))
    bins = Bins.of(pd.Series(values))
    assert bins.bin.tolist() == [value // 100 for value in range(1000)]
    assert bins.shares(pd.Series(values)).tolist() == pytest.approx([0.1] * 10 + [0])


def test_numbers_are_ordered_by_size_and_text_by_character() -> None:
    assert Bins.of(pd.Series([100, 9, 20])).values.tolist() == [9, 20, 100]
    assert Bins.of(pd.Series(["100", "9", "20"])).values.tolist() == ["100", "20", "9"]


def test_a_frequent_value_has_a_bin_of_its_own() -> None:
    bins = Bins.of(pd.Series([5] * 500 + list(range(10, 110)) * 5))
    assert (bins.bin == bins.bin[0]).sum() == 1
    shares = bins.shares(pd.Series([5] * 500 + list(range(10, 110)) * 5))
    assert shares[0] == 0.5
    assert shares[1:-1] == pytest.approx(0.1, abs=0.011)
    assert bins.count <= 11


def test_values_unseen_between_others_are_unseen_all_the_same() -> None:
    bins = Bins.of(pd.Series(range(0, 200, 2)))
    assert bins.shares(pd.Series([3, 77, 4, 198]))[-1] == 0.5


def test_index_of_two_values_by_hand() -> None:
    expected, actual = pd.Series(["a"] * 50 + ["b"] * 50), pd.Series(["a"] * 80 + ["b"] * 20)
    # (.8 - .5) ln(.8 / .5) + (.2 - .5) ln(.2 / .5) = .3 (.470004 + .916291)
    assert stability_index(expected, actual) == pytest.approx(0.4158883)


def test_an_unseen_value_is_weighed_against_the_floor() -> None:
    expected, actual = pd.Series(["a"] * 4), pd.Series(["a"] * 3 + ["new"])
    by_hand = (0.75 - 1) * np.log(0.75) + (0.25 - FLOOR) * np.log(0.25 / FLOOR)
    assert stability_index(expected, actual) == pytest.approx(by_hand)


def test_index_is_the_sum_of_both_relative_entropies() -> None:
    rng = np.random.default_rng(3)
    expected, actual = (pd.Series(rng.choice(6, 5000, p=p)) for p in ([1 / 6] * 6, [0.3, 0.1, 0.1, 0.1, 0.2, 0.2]))
    e, a = (np.bincount(sample, minlength=6) / len(sample) for sample in (expected, actual))
    assert stability_index(expected, actual) == pytest.approx(stats.entropy(a, e) + stats.entropy(e, a))
    assert stability_index(expected, expected) == 0


def test_samples_of_one_population_stay_below_chance() -> None:
    rng = np.random.default_rng(7)
    population = pd.Series(range(500))
    bins = Bins.of(population)
    limit = index_by_chance(10, 300, 150)
    assert limit == pytest.approx((1 / 300 + 1 / 150) * stats.chi2.isf(CHANCE, 9))
    assert index_by_chance(1, 300, 150) == 0
    above = 0
    for _ in range(400):
        expected, actual = (pd.Series(rng.integers(0, 500, rows)) for rows in (300, 150))
        above += stability_index(expected, actual, bins) > limit
    assert above <= 400 * CHANCE + 3
    assert stability_index(expected, actual * 0.8 // 1, bins) > limit


def test_no_rows_have_no_shares() -> None:
    with pytest.raises(ValueError, match="no rows"):
        stability_index(pd.Series([1, 2]), pd.Series([], dtype="int64"))


ROWS = [
    (0, 1, 10, 1), (0, 2, 10, 0), (0, 3, 11, 1), (0, 4, 12, 1),  # base
    (1, 1, 11, 1), (2, 5, 12, 0),  # the first night, of two files
    (3, 2, 11, 1), (3, 5, 11, 0), (3, 6, 13, 0), (3, 6, 14, 0),  # the second
]  # fmt: skip


def test_nights_are_compared() -> None:
    genders = ["F", "M", "F", "M", "F", "M", "M", "M", "F", "F"]
    found = compare_nights(interactions(ROWS, gender=genders), batches(1, 1, 2), schema.FIELDS)
    assert (found.tonight, found.before) == (2, 1)
    assert found.totals.index.tolist() == [0, 1, 2]
    assert found.totals.to_numpy().tolist() == [[4, 4, 3, 0.75], [2, 2, 2, 0.5], [4, 3, 3, 0.25]]
    fields = found.fields.set_index("field")
    assert tuple(fields.index) == schema.FIELD_NAMES
    # Two of four rows are of user 6; movies 13 and 14 are new, movie 11 is not.
    assert fields["unknown_share"].to_dict() == {
        **dict.fromkeys(schema.FIELD_NAMES, 0.0), "user_id": 0.5, "movie_id": 0.5
    }  # fmt: skip
    # Users once each: F, M before; M, M, F tonight, though half of tonight's rows are of F.
    gender = (1 / 3 - 1 / 2) * np.log(2 / 3) + (2 / 3 - 1 / 2) * np.log(4 / 3)
    assert fields.loc["gender", "stability_index"] == pytest.approx(gender)
    # Movies by row, bins of the base files: 11 and 12 before; 11, 11 and two unknown tonight.
    movie = (FLOOR - 0.5) * np.log(FLOOR / 0.5) + (0.5 - FLOOR) * np.log(0.5 / FLOOR)
    assert fields.loc["movie_id", "stability_index"] == pytest.approx(movie)
    assert fields.loc["age", "stability_index"] == 0
    # Four rows are of three users tonight, two of two before.
    assert fields.loc["movie_id", "by_chance"] == pytest.approx((1 / 2 + 1 / 3) * stats.chi2.isf(CHANCE, 2))


def test_a_steady_share_of_new_users_is_no_drift() -> None:
    base = [(0, user, 1, 1) for user in range(100)]
    nights = [
        (night, user, 1, 1) for night in (1, 2, 3) for user in [*range(90), *range(100 * night, 100 * night + 10)]
    ]
    fields = compare_nights(interactions(base + nights), batches(1, 2, 3), schema.FIELDS).fields.set_index("field")
    assert fields.loc["user_id", "stability_index"] == 0
    assert fields.loc["user_id", "unknown_share"] == pytest.approx(0.1)


def test_the_first_night_is_compared_with_the_base() -> None:
    found = compare_nights(interactions(ROWS[:6]), batches(1, 1), schema.FIELDS)
    assert (found.tonight, found.before) == (1, 0)
    unknown = found.fields.set_index("field")["unknown_share"]
    assert (unknown["user_id"], unknown["movie_id"]) == (0.5, 0)


def test_a_night_without_ratings_is_passed_over() -> None:
    found = compare_nights(interactions([*ROWS[:6], (4, 1, 13, 1)]), batches(1, 1, 2, 3), schema.FIELDS)
    assert (found.tonight, found.before) == (3, 1)
    assert found.totals.loc[2, "ratings"] == 0
    last = compare_nights(interactions(ROWS[:6]), batches(1, 1, 2), schema.FIELDS)
    assert (last.tonight, last.before, len(last.fields)) == (2, 1, 0)


def test_the_base_alone_has_totals() -> None:
    found = compare_nights(interactions(ROWS[:4]), batches(), schema.FIELDS)
    assert (found.tonight, found.before) == (0, 0)
    assert found.figures == {}
    assert found.table.to_dict("records") == [
        {"ingestion": 0, "measure": measure, "field": "all", "value": value}
        for measure, value in (("ratings", 4), ("users", 4), ("movies", 3), ("positive_share", 0.75))
    ]


def test_all_figures_in_one_table() -> None:
    found = compare_nights(interactions(ROWS), batches(1, 1, 2), schema.FIELDS)
    table = found.table
    assert {name: str(dtype) for name, dtype in table.dtypes.items()} == {
        "ingestion": "int64", "measure": "str", "field": "str", "value": "float64"
    }  # fmt: skip
    assert len(table) == 3 * 4 + 3 * 14
    assert not table.duplicated(["ingestion", "measure", "field"]).any()
    figures = found.figures
    assert (figures["ratings"], figures["positive_share"], figures["unknown_share_movie_id"]) == (4, 0.25, 0.5)
    assert len(figures) == 4 + 2 * 14


def test_an_unknown_batch_is_named() -> None:
    with pytest.raises(DataError, match="found 3, expected at most 2"):
        compare_nights(interactions(ROWS), batches(1, 1), schema.FIELDS)


def test_a_withdrawn_ingestion_is_not_a_night() -> None:
    table = interactions([(0, 1, 10, 1), (1, 1, 11, 1), (3, 1, 12, 0)])
    taken = batches(1, 2, 3)
    taken["files"][1]["withdrawn"] = True
    found = compare_nights(table, taken, schema.FIELDS)
    assert (found.tonight, found.before) == (3, 1)
    assert found.totals.index.tolist() == [0, 1, 3]
