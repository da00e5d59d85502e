from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from ml.errors import NotFoundError
from ml.inference.engine.keras_forward import JoinedGrid
from ml.inference.recommend import Progress, Recommender
from ml.inference.scorer import Scorer
from ml.models.bundle import ModelBundle

YEAR, MONTH, TOP_K = 2002, 6, 10
FEW, NONE = 7, 8  # users with few and with no unseen movies
LEFT = [1, 50, 228]  # those of the first
COLUMNS = {
    "user_id": "int32", "rank": "int16", "movie_id": "int32", "title": "str", "genres": "str", "score": "float32",
    "rating_year": "int16", "rating_month": "int8",
}  # fmt: skip


@dataclass
class TableForward:
    """Looks the logit up by the codes of user, movie and month: five values only, so that many are equal."""

    bundle: ModelBundle
    table: np.ndarray  # [users, movies, months]

    @classmethod
    def of(cls, bundle: ModelBundle) -> "TableForward":
        shape = (len(bundle.users), len(bundle.movies), 12)
        return cls(bundle, np.random.default_rng(3).integers(-2, 3, shape).astype(np.float32))

    def logits(self, codes: np.ndarray) -> np.ndarray:
        return self.table[codes[:, 0], codes[:, 1], codes[:, 5]]

    def grid(self, column_fields: np.ndarray, column_codes: np.ndarray) -> JoinedGrid:
        return JoinedGrid(self, column_fields, column_codes)


@pytest.fixture(scope="module")
def forward(bundle: ModelBundle) -> TableForward:
    return TableForward.of(bundle)


@pytest.fixture(scope="module")
def ratings(small_interactions: pd.DataFrame, forward: TableForward) -> pd.DataFrame:
    """The data set's ratings and more: two users rated (nearly) all, some pairs twice, some ids unknown."""
    movies = forward.bundle.movies["movie_id"]
    others = small_interactions.loc[small_interactions["user_id"] != FEW, ["user_id", "movie_id"]]
    few = pd.DataFrame({"user_id": FEW, "movie_id": movies[~movies.isin(LEFT)]})
    none = pd.DataFrame({"user_id": NONE, "movie_id": movies})
    unknown = pd.DataFrame({"user_id": [1, 12345], "movie_id": [54321, 1]})
    return pd.concat([unknown, few, others, none, others.head(500)])


@pytest.fixture(scope="module")
def recommender(forward: TableForward, ratings: pd.DataFrame) -> Recommender:
    return Recommender(Scorer(forward.bundle, forward), ratings)


@pytest.fixture(scope="module")
def progress() -> list[Progress]:
    return []


@pytest.fixture(scope="module")
def lists(recommender: Recommender, progress: list[Progress]) -> pd.DataFrame:
    return recommender.recommend_all([(YEAR, MONTH)], TOP_K, on_progress=progress.append)[0][0]


def brute_force(
    forward: TableForward, ratings: pd.DataFrame, month: int, top_k: int
) -> list[tuple[int, int, int, float]]:
    """user_id, rank, movie_id and score of all lists, one pair after another."""
    seen = set(zip(ratings["user_id"], ratings["movie_id"], strict=True))
    lists = []
    for user_code, user in enumerate(forward.bundle.users["user_id"]):
        candidates = []
        for movie_code, movie in enumerate(forward.bundle.movies["movie_id"]):
            if (user, movie) not in seen:
                candidates.append((-float(expit(forward.table[user_code, movie_code, month - 1])), movie))
        for rank, (score, movie) in enumerate(sorted(candidates)[:top_k], start=1):
            lists.append((user, rank, movie, -score))
    return lists


def as_tuples(lists: pd.DataFrame) -> list[tuple[int, int, int, float]]:
    return list(lists[["user_id", "rank", "movie_id", "score"]].itertuples(index=False, name=None))


def test_equals_brute_force(lists: pd.DataFrame, forward: TableForward, ratings: pd.DataFrame) -> None:
    expected = brute_force(forward, ratings, MONTH, TOP_K)
    assert as_tuples(lists) == expected
    equal = sum(a[0] == b[0] and a[3] == b[3] for a, b in pairwise(expected))
    assert equal > 100  # ties were broken


def test_columns(lists: pd.DataFrame, forward: TableForward) -> None:
    assert {name: str(dtype) for name, dtype in lists.dtypes.items()} == COLUMNS
    assert lists.index.equals(pd.RangeIndex(len(lists)))
    assert set(lists["rating_year"]) == {YEAR}
    assert set(lists["rating_month"]) == {MONTH}
    movies = {row["movie_id"]: (row["title"], row["genres"]) for row in forward.bundle.movies.to_dict("records")}
    named = [movies[movie] for movie in lists["movie_id"]]
    assert list(zip(lists["title"], lists["genres"], strict=True)) == named


def test_seen_movies_are_never_recommended(lists: pd.DataFrame, ratings: pd.DataFrame) -> None:
    seen = set(zip(ratings["user_id"], ratings["movie_id"], strict=True))
    assert not seen & set(zip(lists["user_id"], lists["movie_id"], strict=True))


def test_users_with_few_unseen_movies(lists: pd.DataFrame, recommender: Recommender) -> None:
    counts = lists.groupby("user_id").size()
    assert NONE not in counts.index
    assert counts[FEW] == 3
    assert (counts.drop(FEW) == TOP_K).all()
    assert set(lists.loc[lists["user_id"] == FEW, "movie_id"]) == set(LEFT)
    empty = recommender.recommend(NONE, YEAR, MONTH)
    assert len(empty) == 0
    assert {name: str(dtype) for name, dtype in empty.dtypes.items()} == COLUMNS


@pytest.mark.parametrize("user_id", [1, FEW, 128, 129, 300])
def test_one_user_gets_the_same_list(user_id: int, lists: pd.DataFrame, recommender: Recommender) -> None:
    own = lists[lists["user_id"] == user_id].reset_index(drop=True)
    pd.testing.assert_frame_equal(recommender.recommend(user_id, YEAR, MONTH, TOP_K), own)


def test_month_matters(recommender: Recommender, forward: TableForward, ratings: pd.DataFrame) -> None:
    lists = as_tuples(recommender.recommend_all([(YEAR, 12)], 1)[0][0])
    assert lists == brute_force(forward, ratings, 12, 1)
    assert lists != brute_force(forward, ratings, MONTH, 1)


def test_more_than_the_catalogue(recommender: Recommender, forward: TableForward, ratings: pd.DataFrame) -> None:
    expected = [row for row in brute_force(forward, ratings, MONTH, 500) if row[0] == 3]
    assert as_tuples(recommender.recommend(3, YEAR, MONTH, 500)) == expected


def test_progress_ends_at_the_total(lists: pd.DataFrame, progress: list[Progress]) -> None:
    done = [step.done for step in progress]
    assert done == sorted(set(done))
    assert progress[-1] == Progress(300, 300)
    assert {step.total for step in progress} == {300}
    assert done


def test_network_ranks_as_its_pair_scores(bundle: ModelBundle, small_interactions: pd.DataFrame) -> None:
    scorer = Scorer(bundle)
    seen = set(small_interactions.loc[small_interactions["user_id"] == 5, "movie_id"])
    unseen = [movie for movie in bundle.movies["movie_id"] if movie not in seen]
    pairs = pd.DataFrame({"user_id": 5, "movie_id": unseen, "year": YEAR, "month": MONTH})
    scores = scorer.score_pairs(pairs)
    best = Recommender(scorer, small_interactions).recommend(5, YEAR, MONTH, 20)
    np.testing.assert_allclose(best["score"], np.sort(scores)[::-1][:20], rtol=1e-5)
    by_movie = dict(zip(unseen, scores, strict=True))
    np.testing.assert_allclose(best["score"], [by_movie[movie] for movie in best["movie_id"]], rtol=1e-5)


@pytest.mark.parametrize("top_k", [0, -3])
def test_bad_top_k(top_k: int, recommender: Recommender) -> None:
    with pytest.raises(ValueError, match=f"top_k.*{top_k}"):
        recommender.recommend(1, YEAR, MONTH, top_k)
    with pytest.raises(ValueError, match=f"top_k.*{top_k}"):
        recommender.recommend_all([(YEAR, MONTH)], top_k)


@pytest.mark.parametrize(
    ("user_id", "year", "month", "message"),
    [(0, YEAR, MONTH, "user_id 0;"), (1, 1998, MONTH, "rating_year 1998;"), (1, YEAR, 14, "rating_month 14;")],
)
def test_unknown_request(user_id: int, year: int, month: int, message: str, recommender: Recommender) -> None:
    with pytest.raises(NotFoundError, match=message):
        recommender.recommend(user_id, year, month)
