from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd
import pytest

from ml import checks

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("rows", "expected", "passed"),
    [(1, None, True), (10, 10, True), (0, None, False), (0, 10, False), (9, 10, False), (11, 10, False)],
)
def test_row_count(rows: int, expected: int | None, passed: bool) -> None:
    finding = checks.row_count(rows, expected)
    assert (finding.name, finding.passed) == ("row_count", passed)
    assert finding.facts["rows"] == rows


@pytest.mark.parametrize(
    ("users", "movies", "repeated"),
    [([1, 1, 2], [5, 6, 5], 0), ([1, 1, 1], [5, 6, 5], 1), ([1, 1, 1], [5, 5, 5], 2), ([], [], 0)],
)
def test_unique_keys(users: list[int], movies: list[int], repeated: int) -> None:
    table = pd.DataFrame({"user_id": users, "movie_id": movies, "rating": range(len(users))})
    finding = checks.unique_keys(table, ["user_id", "movie_id"])
    assert (finding.name, finding.passed) == ("unique_keys", repeated == 0)
    assert finding.facts == {"key": "user_id, movie_id", "repeated_rows": repeated}


@pytest.mark.parametrize(
    ("numbers", "texts", "missing"),
    [
        ([1.0, 0.0], ["a", ""], 0),
        ([1.0, NAN], ["a", "b"], 1),
        ([1.0, 2.0], [None, "b"], 1),
        ([NAN, NAN], [None, "b"], 3),
    ],
)
def test_complete(numbers: list[float], texts: list[str | None], missing: int) -> None:
    finding = checks.complete(pd.DataFrame({"number": numbers, "text": texts}))
    assert (finding.name, finding.passed) == ("complete", missing == 0)
    assert finding.facts == {"missing_values": missing}


@pytest.mark.parametrize(
    ("sizes", "expected", "passed"),
    [
        ((3, 7), (3, 7), True),
        ((3, 7), [3, 7], True),
        ((3, 7), None, True),
        ((3, 7), (7, 3), False),
        ((3, 6), (3, 7), False),
        ((4, 7), (3, 7), False),
        ((3, 0), None, False),
    ],
)
def test_cardinalities(sizes: tuple[int, ...], expected: tuple[int, ...] | None, passed: bool) -> None:
    finding = checks.cardinalities(("age", "zip"), sizes, expected)
    assert (finding.name, finding.passed) == ("cardinalities", passed)
    assert finding.facts == {"age": sizes[0], "zip": sizes[1]}


@pytest.mark.parametrize(
    ("ages", "zips", "outside"),
    [([0, 6], [0, 2], 0), ([0, 7], [0, 2], 1), ([0, 6], [3, 2], 1), ([-1, 6], [0, 2], 1), ([-1, 7], [-5, 99], 4)],
)
def test_indices_in_range(ages: list[int], zips: list[int], outside: int) -> None:
    encoded = pd.DataFrame({"age": ages, "timestamp": [10**9, -1], "zip": zips})
    finding = checks.indices_in_range(encoded, ("age", "zip"), (7, 3))
    assert (finding.name, finding.passed) == ("indices_in_range", outside == 0)
    assert finding.facts == {"indices_outside": outside}


@pytest.mark.parametrize(
    ("train", "test", "twice", "lost"),
    [
        ([3, 0, 4], [1, 2], 0, 0),
        ([3, 0, 4, 1], [1, 2], 1, 0),
        ([3, 0, 4, 4], [1, 2], 1, 0),
        ([3, 0], [1, 2], 0, 1),
        ([3, 0, 1], [1, 2], 1, 1),
        ([3, 0, 4, 5], [1, 2], 0, 0),  # there is no row 5
    ],
    ids=["good", "in both parts", "twice in one part", "lost", "swapped", "beyond the end"],
)
def test_whole_split(train: list[int], test: list[int], twice: int, lost: int) -> None:
    finding = checks.whole_split(np.array(train), np.array(test), np.ones(5, bool))
    assert (finding.name, finding.passed) == ("whole_split", sorted(train + test) == [0, 1, 2, 3, 4])
    assert finding.facts == {
        "training_rows": len(train),
        "test_rows": len(test),
        "rows_twice": twice,
        "rows_lost": lost,
        "rows_left_out": 0,
    }


@pytest.mark.parametrize(("test", "passed"), [([3], True), ([], False), ([3, 1], False), ([1], False)])
def test_whole_split_of_some_rows(test: list[int], passed: bool) -> None:
    expected = np.array([True, False, True, True])
    finding = checks.whole_split(np.array([0, 2]), np.array(test, int), expected)
    assert (finding.passed, finding.facts["rows_left_out"]) == (passed, 1)


@pytest.mark.parametrize(
    ("train", "val", "passed"),
    [
        ([0.7, 0.6], [0.7, 0.65], True),
        ([0.7, 0.8, 0.6], [0.7, 0.9, 0.65], True),  # what happens in between does not matter
        ([0.7], [0.7], True),
        ([0.7, 0.7], [0.7, 0.6], False),
        ([0.7, 0.8], [0.7, 0.6], False),
        ([0.7, 0.6], [0.7, 0.706], True),  # on few rows, that is chance
        ([0.7, 0.6], [0.7, 0.708], False),
        ([NAN], [0.7], False),
        ([0.7], [INF], False),
        ([0.7, NAN, 0.6], [0.7, 0.8, 0.6], False),
        ([0.7, 0.6], [INF, 0.6], False),
    ],
)
def test_losses_fall(train: list[float], val: list[float], passed: bool) -> None:
    finding = checks.losses_fall(train, val)
    assert (finding.name, finding.passed) == ("losses_fall", passed)
    ends = {"train_first": train[0], "train_last": train[-1], "val_first": val[0], "val_last": val[-1]}
    assert finding.facts == pytest.approx(ends, nan_ok=True)


@pytest.mark.parametrize(
    ("train", "val", "passed"),
    [([0.7, 0.8], [0.7, 0.75], True), ([0.7, NAN], [0.7, 0.6], False), ([0.7], [INF], False)],
)
def test_losses_of_a_warm_start_need_only_be_finite(train: list[float], val: list[float], passed: bool) -> None:
    assert checks.losses_fall(train, val, warm=True).passed == passed


def test_finding_keeps_outcome_and_facts_under_another_name() -> None:
    finding = checks.row_count(0, 5)
    assert finding.named("rows_of_users") == checks.Finding("rows_of_users", False, finding.facts)
    assert finding.name == "row_count"


def evaluation(model: str, **values: float) -> pd.DataFrame:
    return pd.DataFrame({"model": model, "metric": list(values), "value": list(values.values())})


@pytest.mark.parametrize(
    ("values", "below"),
    [
        ({"ndcg_at_10": 0.7, "auc": 0.8, "log_loss": 0.6}, "none"),
        ({"ndcg_at_10": 0.6, "auc": 0.5, "log_loss": 0.6}, "none"),
        ({"ndcg_at_10": 0.501, "auc": 0.401, "log_loss": 0.6}, "none"),
        ({"ndcg_at_10": 0.499, "auc": 0.8, "log_loss": 0.6}, "ndcg_at_10"),
        ({"ndcg_at_10": 0.7, "auc": NAN, "log_loss": 0.6}, "auc"),
        ({"ndcg_at_10": 0.1, "auc": 0.2, "log_loss": 0.6}, "ndcg_at_10, auc"),
    ],
)
def test_not_below_random(values: dict[str, float], below: str) -> None:
    # The other baseline is better than the model; only the random order counts.
    baselines = [evaluation("movie mean", ndcg_at_10=0.9, auc=0.9), evaluation("random", ndcg_at_10=0.6, auc=0.5)]
    finding = checks.not_below_random(evaluation("mine", **values), pd.concat(baselines), users=100)
    assert (finding.name, finding.passed) == ("not_below_random", below == "none")
    assert finding.facts == {"metrics_below": below, "margin": 0.1}


# Two users with three movies each, in two orders of rows; user 1 has rated movie 10, user 2 movie 20.
TOP = pd.DataFrame(
    {
        "user_id": [1, 1, 1, 2, 2, 2],
        "rank": [1, 2, 3, 1, 2, 3],
        "movie_id": [20, 30, 40, 10, 30, 40],
        "score": [1.0, 0.5, 0.5, 0.8, 0.2, 0.0],
    }
)
RATINGS = pd.DataFrame({"user_id": [1, 2, 3], "movie_id": [10, 20, 30], "rating": [5, 1, 3]})


def with_value(column: str, row: int, value: float) -> pd.DataFrame:
    top = TOP.copy()
    top.loc[row, column] = value
    return top


def top_lists(top: pd.DataFrame) -> checks.Finding:
    return checks.top_lists(top, RATINGS, users=[1, 2], movies=range(10, 80, 10), length=3)


@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5], [5, 0, 3, 2, 4, 1]], ids=["in order", "shuffled"])
def test_top_lists_pass(order: list[int]) -> None:
    finding = top_lists(TOP.iloc[order])
    assert (finding.name, finding.passed) == ("top_lists", True)
    assert finding.facts == {
        "users": 2,
        "rows": 6,
        "shorter_lists": 0,
        "lists_of_wrong_length": 0,
        "rows_of_other_users": 0,
        "rows_of_other_movies": 0,
        "wrong_ranks": 0,
        "repeated_movies": 0,
        "rising_scores": 0,
        "scores_outside_0_to_1": 0,
        "rated_movies": 0,
    }


DEFECTS: dict[str, tuple[Callable[[], pd.DataFrame], str]] = {
    "row missing at the end": (lambda: TOP.iloc[:-1], "lists_of_wrong_length"),
    "row missing at the start": (lambda: TOP.iloc[1:], "lists_of_wrong_length"),
    "user missing": (lambda: TOP[TOP["user_id"] == 1], "lists_of_wrong_length"),
    "nobody at all": (lambda: TOP.iloc[:0], "lists_of_wrong_length"),
    "fourth row": (lambda: pd.concat([TOP, TOP.tail(1).assign(rank=4, movie_id=50)]), "lists_of_wrong_length"),
    "user too many": (lambda: pd.concat([TOP, TOP.head(3).assign(user_id=3)]), "rows_of_other_users"),
    "rank from zero": (lambda: TOP.assign(rank=TOP["rank"] - 1), "wrong_ranks"),
    "rank twice": (lambda: with_value("rank", 2, 2), "wrong_ranks"),
    "rank left out": (lambda: with_value("rank", 5, 4), "wrong_ranks"),
    "movie twice": (lambda: with_value("movie_id", 2, 20), "repeated_movies"),
    "rising scores": (lambda: with_value("score", 2, 0.6), "rising_scores"),
    "score above 1": (lambda: with_value("score", 0, 1.01), "scores_outside_0_to_1"),
    "score below 0": (lambda: with_value("score", 5, -0.01), "scores_outside_0_to_1"),
    "score missing": (lambda: with_value("score", 5, NAN), "scores_outside_0_to_1"),
    "unknown movie": (lambda: with_value("movie_id", 0, 99), "rows_of_other_movies"),
    "rated movie": (lambda: with_value("movie_id", 0, 10), "rated_movies"),
}  # fmt: skip


@pytest.mark.parametrize(("make", "fact"), DEFECTS.values(), ids=DEFECTS)
def test_top_lists_fail(make: Callable[[], pd.DataFrame], fact: str) -> None:
    finding = top_lists(make())
    assert not finding.passed
    assert finding.facts[fact] > 0


def test_top_lists_of_nobody_fail() -> None:
    assert not checks.top_lists(TOP.iloc[:0], RATINGS, users=[], movies=[10, 20], length=3).passed
    assert not checks.top_lists(TOP.iloc[:0], RATINGS, users=[1], movies=[10], length=3).passed


# Of four movies user 1 has rated two, one of them twice, and user 2 all.
RATED = pd.DataFrame({"user_id": [1, 1, 1, 1, 2, 2, 2, 2], "movie_id": [10, 20, 20, 99, 10, 20, 30, 40]})
SHORT = pd.DataFrame({"user_id": [1, 1], "rank": [1, 2], "movie_id": [30, 40], "score": [0.5, 0.4]})


def short_lists(top: pd.DataFrame) -> checks.Finding:
    return checks.top_lists(top, RATED, users=[1, 2], movies=[10, 20, 30, 40], length=3)


def test_a_list_is_as_long_as_there_are_unseen_movies() -> None:
    finding = short_lists(SHORT)
    assert finding.passed
    assert (finding.facts["users"], finding.facts["shorter_lists"]) == (2, 2)


@pytest.mark.parametrize(
    "top", [SHORT.iloc[:1], pd.concat([SHORT, SHORT.tail(1).assign(user_id=2, rank=1)]), SHORT.iloc[:0]]
)
def test_a_list_that_could_be_longer_or_cannot_be_as_long_fails(top: pd.DataFrame) -> None:
    finding = short_lists(top)
    assert not finding.passed
    assert finding.facts["lists_of_wrong_length"] > 0


@pytest.mark.parametrize(("labels", "passed"), [([1, 0], True), ([1, 1], False), ([0], False), ([], False)])
def test_both_labels(labels: list[int], passed: bool) -> None:
    finding = checks.both_labels(pd.Series(labels, dtype="int8"))
    assert finding.passed is passed
    assert (finding.facts["liked"], finding.facts["not_liked"]) == (sum(labels), len(labels) - sum(labels))


def test_a_metric_without_a_value_for_the_random_order_is_not_compared() -> None:
    random = evaluation("random", ndcg_at_10=0.6, auc=NAN)
    assert checks.not_below_random(evaluation("mine", ndcg_at_10=0.6, auc=NAN), random, users=9).passed
    assert not checks.not_below_random(evaluation("mine", ndcg_at_10=NAN, auc=NAN), random, users=9).passed


def test_another_users_rating_is_no_defect() -> None:
    pairs = product((1, 2), (50, 60, 70))
    top = TOP.assign(movie_id=[movie for _, movie in pairs])
    ratings = pd.DataFrame({"user_id": np.full(3, 3), "movie_id": [50, 60, 70]})
    assert checks.top_lists(top, ratings, users=[1, 2], movies=[50, 60, 70], length=3).passed


def test_known_keys_by_hand() -> None:
    ratings = pd.DataFrame({"user_id": [1, 2, 3, 3], "movie_id": [10, 20, 10, 30]})
    movies = pd.DataFrame({"movie_id": [10, 20, 30]})
    everybody = checks.known_keys(ratings, pd.DataFrame({"user_id": [3, 1, 2]}), movies)
    assert (everybody.name, everybody.passed) == ("known_keys", True)
    found = checks.known_keys(ratings, pd.DataFrame({"user_id": [1, 2]}), movies)
    assert not found.passed
    assert found.facts == {"ratings_without_user_id": 2, "ratings_without_movie_id": 0}


def test_findings_of_blocks_are_added() -> None:
    frame = pd.DataFrame({"a": [1.0, None, 3.0, None]})
    whole = checks.complete(frame)
    assert checks.added([checks.complete(frame[:1]), checks.complete(frame[1:])]) == whole
    assert checks.added([checks.complete(frame[:1])]).passed
