import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from ml.features import ease
from ml.features.ease import EaseConfig, ease_weights, low_rank_ease, most_rated, seen_matrix
from ml.features.feature_map import FeatureMap
from tests.feature_maps import encode_interactions

ROWS = pd.DataFrame({"user_id": [0, 2, 2, 1], "movie_id": [3, 0, 3, 1], "label": [1, 0, 1, 1], "rating": [5, 2, 4, 4]})


SIZES = USERS, MOVIES = 90, 40
PENALTY = 5


@pytest.fixture(scope="module")
def train(small_interactions: pd.DataFrame, small_feature_map: FeatureMap) -> pd.DataFrame:
    """Rows of the first users and movies."""
    encoded = encode_interactions(small_interactions, small_feature_map)
    return encoded[(encoded["user_id"] < USERS) & (encoded["movie_id"] < MOVIES)]


@pytest.fixture(scope="module")
def scores(train: pd.DataFrame) -> dict[str, np.ndarray]:
    """EASE's scores by what counts, [users, movies]: a ridge regression of each movie on all others."""
    found = {}
    likes = train[train["label"] == 1]
    for of, rows, values in (("likes", likes, 1), ("ratings", train, 1), ("values", train, train["rating"] / 5)):
        seen = np.zeros(SIZES)
        seen[rows["user_id"], rows["movie_id"]] = values
        found[of] = np.empty(SIZES)
        for movie in range(MOVIES):
            others = np.delete(seen, movie, axis=1)
            gram = others.T @ others + PENALTY * np.eye(MOVIES - 1)
            found[of][:, movie] = others @ np.linalg.solve(gram, others.T @ seen[:, movie])
    return found


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        ("likes", [[0, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 1, 0]]),
        ("ratings", [[0, 0, 0, 1, 0], [0, 1, 0, 0, 0], [1, 0, 0, 1, 0]]),
        ("values", [[0, 0, 0, 1, 0], [0, 0.8, 0, 0, 0], [0.4, 0, 0, 0.8, 0]]),
    ],
)
def test_what_is_seen_by_hand(of: str, expected: list[list[float]]) -> None:
    seen = seen_matrix(ROWS, 3, 5, of)
    assert seen.toarray().tolist() == expected
    assert (seen.shape, seen.dtype) == ((3, 5), np.float64)


def test_likes_are_the_default() -> None:
    assert seen_matrix(ROWS, 3, 5).toarray().tolist() == seen_matrix(ROWS, 3, 5, "likes").toarray().tolist()
    assert EaseConfig() == EaseConfig(of="likes", penalty=500, rank=128)


def test_weights_of_two_movies_by_hand() -> None:
    # Seen by 2 and by 3 users, by both 1: movie 0 predicts movie 1 by 1 / (2 + 4), and is predicted by 1 / (3 + 4).
    train = pd.DataFrame({"user_id": [0, 0, 1, 2, 3], "movie_id": [0, 1, 0, 1, 1], "label": 1})
    weights = ease_weights(seen_matrix(train, 4, 2), penalty=4)
    assert weights == pytest.approx(np.array([[0, 1 / 6], [1 / 7, 0]]), rel=1e-12)


@pytest.mark.parametrize("of", ["likes", "values"])
@pytest.mark.parametrize("users", [12, 40, 90])  # fewer users than movies, as many, more
def test_scores_are_those_of_a_ridge_regression(train: pd.DataFrame, users: int, of: str) -> None:
    seen = seen_matrix(train[train["user_id"] < users], users, MOVIES, of)
    weights, cells = ease_weights(seen, PENALTY), seen.toarray()
    for movie in range(MOVIES):
        others = np.delete(cells, movie, axis=1)
        gram = others.T @ others + PENALTY * np.eye(MOVIES - 1)
        expected = np.insert(np.linalg.solve(gram, others.T @ cells[:, movie]), movie, 0)
        unit = np.eye(MOVIES)[:, movie]
        np.testing.assert_allclose(weights @ unit, expected, atol=1e-12)
        np.testing.assert_allclose((seen @ weights)[:, movie], cells @ expected, atol=1e-12)
        np.testing.assert_allclose((weights.T @ cells.T)[movie], cells @ expected, atol=1e-12)


@pytest.mark.parametrize("of", ["likes", "ratings", "values"])
def test_all_but_one_rank_leaves_the_smallest_singular_value(
    train: pd.DataFrame, scores: dict[str, np.ndarray], of: str
) -> None:
    users, movies = low_rank_ease(train, *SIZES, EaseConfig(of=of, penalty=PENALTY, rank=MOVIES - 1))
    values = np.linalg.svd(scores[of], compute_uv=False)
    assert values[-1] < values[0] / 50
    np.testing.assert_allclose(users @ movies.T, scores[of], atol=values[-1] + 1e-9)
    assert np.linalg.norm(users @ movies.T - scores[of]) == pytest.approx(values[-1], abs=1e-8)


@pytest.mark.parametrize("rank", [1, 4, 15])
@pytest.mark.parametrize("of", ["likes", "ratings", "values"])
def test_factors_are_close_to_the_best_of_their_rank(
    train: pd.DataFrame, scores: dict[str, np.ndarray], of: str, rank: int
) -> None:
    users, movies = low_rank_ease(train, *SIZES, EaseConfig(of=of, penalty=PENALTY, rank=rank))
    values = np.linalg.svd(scores[of], compute_uv=False)
    best = np.linalg.norm(values[rank:])  # no approximation of this rank is closer (Eckart and Young, 1936)
    error = np.linalg.norm(scores[of] - users @ movies.T)
    assert 0.05 * np.linalg.norm(scores[of]) < best * (1 - 1e-9) < error < 1.02 * best
    assert np.linalg.norm(users, axis=0) == pytest.approx(values[:rank], rel=0.05)
    np.testing.assert_allclose(movies.T @ movies, np.eye(rank), atol=1e-9)


def test_likes_and_ratings_differ(train: pd.DataFrame) -> None:
    likes, ratings = (low_rank_ease(train, *SIZES, EaseConfig(of=of, rank=5)) for of in ("likes", "ratings"))
    only_likes = low_rank_ease(train[train["label"] == 1], *SIZES, EaseConfig(of="ratings", rank=5))
    assert not np.allclose(likes[0] @ likes[1].T, ratings[0] @ ratings[1].T, rtol=0.1)
    np.testing.assert_allclose(likes[0] @ likes[1].T, only_likes[0] @ only_likes[1].T, atol=1e-12)


def test_a_second_fit_is_the_same(train: pd.DataFrame) -> None:
    first, again = (low_rank_ease(train, *SIZES, EaseConfig(rank=7)) for _ in range(2))
    for ours, expected in zip(again, first, strict=True):
        assert ours.tolist() == expected.tolist()


def test_order_of_the_rows_changes_nothing(train: pd.DataFrame) -> None:
    users, movies = low_rank_ease(train, *SIZES, EaseConfig(rank=7))
    other_users, other_movies = low_rank_ease(train.sample(frac=1, random_state=1), *SIZES, EaseConfig(rank=7))
    np.testing.assert_allclose(other_users @ other_movies.T, users @ movies.T, atol=1e-9)


@pytest.mark.parametrize("sizes", [(3, 5), (4, 3)])
def test_rank_is_at_most_one_less_than_the_smaller_side(sizes: tuple[int, int]) -> None:
    users, movies = low_rank_ease(ROWS[ROWS["movie_id"] < sizes[1]], *sizes, EaseConfig(rank=1000, of="ratings"))
    assert users.shape == (sizes[0], 2)
    assert movies.shape == (sizes[1], 2)
    assert users.dtype == movies.dtype == np.float64


def test_who_and_what_is_without_rows_has_no_scores(train: pd.DataFrame) -> None:
    rows = train[(train["user_id"] != 3) & (train["movie_id"] != 8)]
    users, movies = low_rank_ease(rows, *SIZES, EaseConfig(penalty=PENALTY, rank=10))
    np.testing.assert_allclose(users[3], 0, atol=1e-12)
    np.testing.assert_allclose(users @ movies[8], 0, atol=1e-9)
    assert np.abs(users @ movies.T).max() > 0.1


@pytest.mark.parametrize("settings", [{"of": "dislikes"}, {"penalty": 0}, {"rank": 0}, {"factors": 3}])
def test_bad_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(settings))):
        EaseConfig(**settings)  # type: ignore[arg-type]


def test_the_most_rated_movies_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pd.DataFrame({"user_id": [0, 1, 2, 0, 1, 0, 3], "movie_id": [4, 4, 4, 1, 1, 3, 0], "label": 1, "rating": 5})
    seen = seen_matrix(rows, 4, 6)
    assert most_rated(seen).tolist() == [0, 1, 3, 4]
    for most, expected in ((1, [4]), (2, [1, 4]), (3, [0, 1, 4])):  # of equal counts, the first
        monkeypatch.setattr(ease, "MOST_ITEMS", most)
        assert most_rated(seen).tolist() == expected


def test_too_many_movies_are_fitted_without_the_least_rated(
    train: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ease, "MOST_ITEMS", 25)
    counts = train.loc[train["label"] == 1, "movie_id"].value_counts().reindex(range(MOVIES), fill_value=0)
    kept = np.sort(counts.sort_values(ascending=False, kind="stable").index[:25])
    config = EaseConfig(penalty=PENALTY, rank=24)
    users, movies = low_rank_ease(train, *SIZES, config)
    own = train[train["movie_id"].isin(kept)]
    own_users, own_movies = low_rank_ease(
        own.assign(movie_id=np.searchsorted(kept, own["movie_id"])), USERS, 25, config
    )
    expected = np.zeros(SIZES)
    expected[:, kept] = own_users @ own_movies.T
    np.testing.assert_allclose(users @ movies.T, expected, atol=1e-6)
    assert not movies[np.setdiff1d(np.arange(MOVIES), kept)].any()
