from collections.abc import Sequence
from itertools import combinations
from math import log2

import numpy as np
import pandas as pd
import pytest

from ml.evaluation.catalogue import (
    CATALOGUE_METRICS,
    CATALOGUE_USER_METRICS,
    catalogue_metrics,
    catalogue_metrics_by_user,
)
from ml.features.genres import genre_sets

GAINS = [1 / log2(rank + 1) for rank in range(1, 11)]
NO_TRAINING = pd.DataFrame({"user_id": [], "movie_id": []}, dtype="int32")


def listed(lists: dict[int, Sequence[int]]) -> pd.DataFrame:
    """Return lists of users, best first, with the real types."""
    rows = [(user, rank, movie) for user, movies in lists.items() for rank, movie in enumerate(movies, start=1)]
    frame = pd.DataFrame(rows, columns=["user_id", "rank", "movie_id"])
    return frame.astype({"user_id": "int32", "rank": "int16", "movie_id": "int32"})


def without_genres(movies: int) -> np.ndarray:
    """Return the genre sets of so many items that have none."""
    return np.zeros((movies, 0), np.float32)


def held_out(liked: dict[int, Sequence[int]], disliked: dict[int, Sequence[int]] | None = None) -> pd.DataFrame:
    """Return test rows with these positives and negatives."""
    rows = [
        (user, movie, label)
        for label, pairs in ((1, liked), (0, disliked or {}))
        for user, movies in pairs.items()
        for movie in movies
    ]
    return pd.DataFrame(rows, columns=["user_id", "movie_id", "label"]).astype("int32")


def random_lists(seed: int, users: int = 30, movies: int = 40) -> pd.DataFrame:
    """Return lists of 1 to 10 items for every other user."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 11, users)
    return listed({2 * user: rng.permutation(movies)[: lengths[user]].tolist() for user in range(users)})


def test_users_by_hand() -> None:
    test = held_out({3: [20, 21, 99], 1: [5], 7: [4]}, {3: [22], 8: [1]})
    metrics = catalogue_metrics_by_user(test, listed({3: [30, 20, 22, 21], 1: [6, 7], 8: [1]}))
    ndcg = (1 / log2(3) + 1 / log2(5)) / (1 + 1 / log2(3) + 1 / log2(4))  # ranks 2 and 4, of three positives
    expected = pd.DataFrame(
        {
            "catalogue_ndcg_at_10": [0, ndcg, 0],
            "catalogue_recall_at_10": [0, 2 / 3, 0],
            "catalogue_hit_rate_at_10": [0.0, 1, 0],
        },
        index=pd.Index([1, 3, 7], name="user_id", dtype="int32"),  # 7 has no list, 8 no positive
    )
    pd.testing.assert_frame_equal(metrics, expected, rtol=1e-12)
    assert tuple(metrics.columns) == CATALOGUE_USER_METRICS
    assert set(metrics.dtypes) == {np.dtype("float64")}


def test_ideal_is_cut_at_ten() -> None:
    metrics = catalogue_metrics_by_user(held_out({0: range(12)}), listed({0: [*range(9), 50]})).loc[0]
    assert metrics.tolist() == pytest.approx([sum(GAINS[:9]) / sum(GAINS), 9 / 12, 1], rel=1e-12)


def test_perfect_lists_have_full_marks() -> None:
    liked = {0: [4], 1: range(10), 2: range(5, 8)}
    assert (catalogue_metrics_by_user(held_out(liked), listed(liked)) == 1).all(axis=None)


def test_ranks_past_ten_do_not_count() -> None:
    long = listed({0: range(12), 1: range(20, 31)})
    short = listed({0: range(10), 1: range(20, 30)})
    test = held_out({0: [9, 10, 11], 1: [30]})
    metrics = catalogue_metrics_by_user(test, long)
    assert metrics["catalogue_recall_at_10"].tolist() == [1 / 3, 0]
    genres = genre_sets(["Drama", "Comedy|Drama", "War"] * 11)
    assert catalogue_metrics(NO_TRAINING, test, long, genres) == catalogue_metrics(NO_TRAINING, test, short, genres)


def test_order_of_the_rows_is_irrelevant() -> None:
    lists, test = random_lists(0), held_out({user: range(user % 7, 40, 3) for user in range(60)})
    shuffled = lists.sample(frac=1, random_state=3), test.sample(frac=1, random_state=4)
    expected = catalogue_metrics_by_user(test, lists)
    pd.testing.assert_frame_equal(catalogue_metrics_by_user(shuffled[1], shuffled[0]), expected, check_exact=True)
    genres = genre_sets(["Drama", "Comedy|Drama"] * 20)
    assert catalogue_metrics(NO_TRAINING, shuffled[1], shuffled[0], genres) == pytest.approx(
        catalogue_metrics(NO_TRAINING, test, lists, genres), rel=1e-12
    )


def test_users_against_a_loop() -> None:
    lists, rng = random_lists(1), np.random.default_rng(2)
    liked = {user: rng.permutation(40)[: rng.integers(1, 20)].tolist() for user in range(45)}
    expected = {}
    for user, movies in liked.items():
        top = lists[lists["user_id"] == user].set_index("rank")["movie_id"]
        gains = [GAINS[rank - 1] for rank, movie in top.items() if movie in movies]
        expected[user] = [sum(gains) / sum(GAINS[: len(movies)]), len(gains) / len(movies), float(len(gains) > 0)]
    wanted = pd.DataFrame.from_dict(expected, orient="index", columns=list(CATALOGUE_USER_METRICS))
    assert wanted["catalogue_hit_rate_at_10"].nunique() == 2
    pd.testing.assert_frame_equal(
        catalogue_metrics_by_user(held_out(liked), lists), wanted.rename_axis("user_id"), check_index_type=False
    )


def test_all_metrics_by_hand() -> None:
    train = pd.DataFrame({"user_id": [0, 1, 2, 3, 3], "movie_id": [1, 1, 2, 1, 2], "label": [1, 0, 1, 0, 0]})
    lists = listed({0: [2, 3], 1: [3, 2], 2: [3], 9: [1, 4]})
    genres = genre_sets(["", "Drama", "Comedy|Drama|War", "Drama|War", "", "", "Comedy", ""])
    values = catalogue_metrics(train, held_out({0: [3], 1: [0, 2], 5: [2]}), lists, genres)
    assert list(values) == list(CATALOGUE_METRICS)
    assert all(type(value) is float for value in values.values())
    assert values == pytest.approx(
        {
            "catalogue_ndcg_at_10": (1 / log2(3) + 1 / log2(3) / (1 + 1 / log2(3)) + 0) / 3,
            "catalogue_recall_at_10": (1 + 1 / 2 + 0) / 3,
            "catalogue_hit_rate_at_10": 2 / 3,
            "catalogue_coverage_at_10": 4 / 8,
            "catalogue_mean_popularity_at_10": (2 + 0 + 0 + 2 + 0 + 3 + 0) / 7,
            "catalogue_list_overlap_at_10": (2 + 1 + 1 + 0 + 0 + 0) / 6 / 10,  # users 0 and 1 share two movies
            "catalogue_list_similarity_at_10": (2 / 3 + 2 / 3 + 0) / 3,  # user 2 has a list of one movie
            # Movie 3 is listed for user 0; movie 2, of weight 1 / 2, but not 0, of weight 1, for user 1.
            "catalogue_unbiased_recall_at_10": (1 + (1 / 2) / (1 + 1 / 2) + 0) / 3,
        },
        rel=1e-7,
    )


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_overlap_against_all_pairs(seed: int) -> None:
    lists = random_lists(seed)
    sets = [set(movies) for _, movies in lists.groupby("user_id")["movie_id"]]
    shared = [len(first & second) / 10 for first, second in combinations(sets, 2)]
    values = catalogue_metrics(NO_TRAINING, held_out({0: [1]}), lists, without_genres(40))
    assert len(shared) == 30 * 29 / 2
    assert values["catalogue_list_overlap_at_10"] == pytest.approx(np.mean(shared), rel=1e-12)


@pytest.mark.parametrize(
    ("lists", "overlap", "coverage"),
    [
        ({user: range(10) for user in range(5)}, 1, 10 / 50),
        ({user: range(10 * user, 10 * user + 10) for user in range(5)}, 0, 1),
    ],
    ids=["one list for all", "no movie twice"],
)
def test_bounds(lists: dict[int, Sequence[int]], overlap: float, coverage: float) -> None:
    values = catalogue_metrics(NO_TRAINING, held_out({0: [1]}), listed(lists), without_genres(50))
    assert values["catalogue_list_overlap_at_10"] == overlap
    assert values["catalogue_coverage_at_10"] == coverage


@pytest.mark.parametrize("seed", [0, 1])
def test_similarity_against_all_pairs(seed: int) -> None:
    rng, lists = np.random.default_rng(seed), random_lists(seed)
    genres = [frozenset(rng.choice(list("abcdef"), rng.integers(0, 5), replace=False)) for _ in range(40)]
    of_lists = []
    for _, movies in lists.groupby("user_id")["movie_id"]:
        pairs = [(genres[one], genres[other]) for one, other in combinations(movies, 2)]
        if pairs:
            of_lists.append(np.mean([len(one & other) / max(len(one | other), 1) for one, other in pairs]))
    sets = genre_sets(["|".join(sorted(own)) for own in genres])
    values = catalogue_metrics(NO_TRAINING, held_out({0: [1]}), lists, sets)
    assert 0 < len(of_lists) < 30
    assert values["catalogue_list_similarity_at_10"] == pytest.approx(np.mean(of_lists), rel=1e-6)


def test_unbiased_recall_of_equally_popular_movies_is_recall() -> None:
    lists, test = random_lists(2), held_out({user: range(user % 7, 40, 3) for user in range(60)})
    train = pd.DataFrame({"user_id": 99, "movie_id": range(40)})
    values = catalogue_metrics(train, test, lists, without_genres(40))
    assert 0 < values["catalogue_recall_at_10"] < 1
    assert values["catalogue_unbiased_recall_at_10"] == pytest.approx(values["catalogue_recall_at_10"], rel=1e-12)


def test_nothing_to_average_is_nan() -> None:
    one = catalogue_metrics(NO_TRAINING, held_out({}, {4: [2]}), listed({4: [1, 2]}), without_genres(4))
    assert np.isnan([one[name] for name in (*CATALOGUE_USER_METRICS, "catalogue_list_overlap_at_10")]).all()
    assert (one["catalogue_coverage_at_10"], one["catalogue_mean_popularity_at_10"]) == (1 / 2, 0)
    none = catalogue_metrics(NO_TRAINING, held_out({4: [2]}), listed({}), without_genres(4))
    measured = (*CATALOGUE_METRICS[:4], "catalogue_unbiased_recall_at_10")
    assert [none[name] for name in measured] == [0] * 5
    assert np.isnan([none[name] for name in CATALOGUE_METRICS if name not in measured]).all()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(1, 1, 5), (6, 1, 8), (6, 2, 7), (6, 3, 8)], "user 6: item 8 is listed twice"),
        ([(1, 1, 5), (1, 0, 7)], "user 1: item 7 has a rank below 1"),
        ([(1, 1, 5), (1, 1, 7)], "user 1: item 7 has the same rank as another item"),
        ([(1, 1, 5), (2, 1, 3)], "user 2: item 3 is listed, but it is in the user's training rows"),
        ([(2, 1, 5), (1, 1, 10)], "user 1: item 10 is not one of 10 items"),
        ([(1, 1, -1)], "user 1: item -1 is not one of 10 items"),
    ],
)
def test_invalid_lists_are_errors(rows: list[tuple[int, int, int]], message: str) -> None:
    train = pd.DataFrame({"user_id": [1, 2], "movie_id": [3, 3]})
    lists = pd.DataFrame(rows, columns=["user_id", "rank", "movie_id"])
    with pytest.raises(ValueError, match=f"^{message}$"):
        catalogue_metrics(train, held_out({1: [5]}), lists, without_genres(10))
