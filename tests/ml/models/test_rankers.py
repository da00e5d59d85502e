import warnings
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from implicit.als import AlternatingLeastSquares
from scipy import sparse
from threadpoolctl import threadpool_limits

from ml.features.ease import ease_weights, seen_matrix
from ml.features.feature_map import FeatureMap
from ml.models import rankers
from ml.models.baselines import factorization_scores, movie_mean_scores
from ml.models.rankers import CatalogueBaseline, catalogue_baselines
from tests.feature_maps import encode_interactions

USERS, MOVIES = 60, 25
NEW_USER, UNKNOWN_MOVIE = 7, 11  # without training rows
FITS: dict[str, Callable[[pd.DataFrame, int, int], CatalogueBaseline]] = {
    "popularity": rankers.popularity,
    "movie_mean": rankers.movie_mean,
    "matrix_factorization": rankers.matrix_factorization,
    "implicit_als": rankers.implicit_als,
    "ease": rankers.ease,
}


@pytest.fixture(scope="module")
def train() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    user, movie = np.nonzero(rng.random((USERS, MOVIES)) < 0.4)
    frame = pd.DataFrame({"user_id": user, "movie_id": movie}).astype("int32")
    frame = frame[(frame["user_id"] != NEW_USER) & (frame["movie_id"] != UNKNOWN_MOVIE)]
    rating = rng.integers(1, 6, len(frame))
    return frame.assign(rating=rating.astype("int8"), label=(rating >= 4).astype("int8")).sample(frac=1, random_state=1)


@pytest.fixture(scope="module")
def likes(train: pd.DataFrame) -> np.ndarray:
    """Dense, [users, movies]."""
    cells = np.zeros((USERS, MOVIES))
    cells[train["user_id"], train["movie_id"]] = train["label"]
    return cells


def test_popularity_counts_likes_by_hand() -> None:
    train = pd.DataFrame({"user_id": [0, 1, 2, 2], "movie_id": [3, 3, 3, 0], "label": [1, 0, 1, 0]})
    scores = rankers.popularity(train, 4, 5)(np.array([2, 0, 3]))
    assert scores.tolist() == [[0, 0, 0, 2, 0]] * 3


def test_movie_mean_by_hand() -> None:
    train = pd.DataFrame({"user_id": [0, 1, 2, 2], "movie_id": [3, 3, 3, 0], "label": [1, 0, 1, 0]})
    mean = 2 / 4
    scores = rankers.movie_mean(train, 4, 5)(np.array([1, 3]))
    expected = [(0 + 10 * mean) / (1 + 10), mean, mean, (2 + 10 * mean) / (3 + 10), mean]
    assert scores == pytest.approx(np.array([expected] * 2), rel=1e-12)


def test_movie_mean_and_factorisation_score_as_they_do_rows(train: pd.DataFrame) -> None:
    users = np.array([5, NEW_USER, 59, 5])
    pairs = pd.DataFrame({"user_id": np.repeat(users, MOVIES), "movie_id": np.tile(np.arange(MOVIES), len(users))})
    by_movie = rankers.movie_mean(train, USERS, MOVIES)(users)
    assert by_movie.ravel().tolist() == movie_mean_scores(train, pairs).tolist()
    factorised = rankers.matrix_factorization(train, USERS, MOVIES, seed=3)(users)
    assert factorised.ravel() == pytest.approx(factorization_scores(train, pairs, seed=3), rel=1e-12)


@pytest.mark.parametrize("penalty", [0.5, 20.0])
def test_ease_is_ridge_regression_of_every_movie_on_the_others(
    train: pd.DataFrame, likes: np.ndarray, penalty: float
) -> None:
    expected = np.zeros((MOVIES, MOVIES))
    for movie in range(MOVIES):
        others = np.delete(np.arange(MOVIES), movie)
        design = likes[:, others]
        gram = design.T @ design + penalty * np.eye(len(others))
        expected[others, movie] = np.linalg.solve(gram, design.T @ likes[:, movie])
    weights = ease_weights(seen_matrix(train, USERS, MOVIES), penalty)
    np.testing.assert_allclose(weights, expected, rtol=1e-9, atol=1e-12)


def test_ease_of_two_movies_by_hand() -> None:
    # X'X = [[2, 1], [1, 3]]: with a penalty of 1, movie 0 predicts 1 by 1 / (2 + 1), movie 1 predicts 0 by 1 / (3 + 1).
    pairs = [(0, 0), (0, 1), (1, 0), (2, 1), (3, 1)]
    train = pd.DataFrame(pairs, columns=["user_id", "movie_id"]).assign(label=1)
    seen = seen_matrix(train, 4, 2)
    weights = ease_weights(seen, penalty=1)
    assert weights == pytest.approx(np.array([[0, 1 / 3], [1 / 4, 0]]), rel=1e-12)
    assert seen[[1, 0]] @ weights == pytest.approx(np.array([[0, 1 / 3], [1 / 4, 1 / 3]]), rel=1e-12)


def test_ease_scores_by_the_weights_of_its_penalty(train: pd.DataFrame, likes: np.ndarray) -> None:
    users = np.array([3, 0, NEW_USER])
    expected = likes[users] @ ease_weights(seen_matrix(train, USERS, MOVIES), 500.0)
    np.testing.assert_allclose(rankers.ease(train, USERS, MOVIES)(users), expected, rtol=1e-9, atol=1e-12)


def test_implicit_als_solves_the_weighted_regression(
    train: pd.DataFrame, likes: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rankers, "_FACTORS", 3)
    monkeypatch.setattr(rankers, "_ITERATIONS", 30)
    users, movies = rankers.implicit_factors(train, USERS, MOVIES, seed=42)
    penalty = 0.017 * (USERS * MOVIES) ** 0.5
    for movie in range(MOVIES):  # the movies are solved last
        weights = np.where(likes[:, movie] == 1, 6, 1)
        gram = (users.T * weights) @ users + penalty * np.eye(3)
        expected = np.linalg.solve(gram, users.T @ (weights * likes[:, movie]))
        np.testing.assert_allclose(movies[movie], expected, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_do_not_change_implicit_als(train: pd.DataFrame, likes: np.ndarray, threads: int) -> None:
    users, movies = rankers.implicit_factors(train, USERS, MOVIES, seed=5)
    regularization = 0.017 * (USERS * MOVIES) ** 0.5
    settings = {"factors": 64, "alpha": 6.0, "regularization": regularization, "iterations": 15, "random_state": 5}
    with threadpool_limits(1, "blas"):
        model = AlternatingLeastSquares(**settings, use_gpu=False, num_threads=threads)
        model.fit(sparse.csr_matrix(likes, dtype=np.float32), show_progress=False)
    assert users.tolist() == model.user_factors.tolist()
    assert movies.tolist() == model.item_factors.tolist()


def test_fitting_warns_of_nothing(train: pd.DataFrame) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score = rankers.implicit_als(train, USERS, MOVIES)
    assert score(np.arange(USERS)).shape == (USERS, MOVIES)


@pytest.mark.parametrize("name", ["implicit_als", "ease"])
def test_own_groups_unseen_movie_comes_first(name: str) -> None:
    # Users 0-29 like movies 0-4, the others movies 5-9; each has not seen one of them.
    seen = np.zeros((60, 10), bool)
    for user in range(60):
        own = np.arange(5) + 5 * (user >= 30)
        seen[user, np.delete(own, user % 5)] = True
    user, movie = np.nonzero(seen)
    train = pd.DataFrame({"user_id": user, "movie_id": movie, "label": 1}).astype("int32")
    scores = np.where(seen, -np.inf, FITS[name](train, 60, 10)(np.arange(60)))
    assert scores.argmax(axis=1).tolist() == [user % 5 + 5 * (user >= 30) for user in range(60)]


@pytest.mark.parametrize("name", FITS)
def test_order_of_the_rows_and_a_second_fit_change_nothing(train: pd.DataFrame, name: str) -> None:
    everybody = np.arange(USERS)
    first = FITS[name](train, USERS, MOVIES)(everybody)
    assert (first == FITS[name](train, USERS, MOVIES)(everybody)).all()
    shuffled = FITS[name](train.sample(frac=1, random_state=8), USERS, MOVIES)(everybody)
    np.testing.assert_allclose(shuffled, first, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["matrix_factorization", "implicit_als"])
def test_seed_decides_the_start(train: pd.DataFrame, name: str) -> None:
    models = [catalogue_baselines(train, USERS, MOVIES, seed)[name] for seed in (1, 1, 2)]
    first, again, other = (model(np.arange(USERS)) for model in models)
    assert (first == again).all()
    assert (first != other).any()


def test_baselines_score_any_block_of_users(small_interactions: pd.DataFrame, small_feature_map: FeatureMap) -> None:
    encoded = encode_interactions(small_interactions, small_feature_map)
    users, movies = (int(encoded[name].max()) + 1 for name in ("user_id", "movie_id"))
    baselines = catalogue_baselines(encoded[encoded["user_id"] != NEW_USER], users, movies, seed=42)
    assert list(baselines) == list(FITS)
    for baseline in baselines.values():
        everybody = baseline(np.arange(users))
        assert everybody.shape == (users, movies)
        assert everybody.dtype == np.float64
        assert np.isfinite(everybody).all()
        block = np.array([31, NEW_USER, 2], dtype=np.int32)
        np.testing.assert_allclose(baseline(block), everybody[block], rtol=1e-9, atol=1e-12)


def test_new_user_and_unknown_movie(train: pd.DataFrame) -> None:
    new, everybody = np.array([NEW_USER]), np.arange(USERS)
    for fit in (rankers.ease, rankers.implicit_als):
        fitted = fit(train, USERS, MOVIES)
        assert not fitted(new).any()
        assert not fitted(everybody)[:, UNKNOWN_MOVIE].any()
        assert fitted(everybody).any()
    likes = train.loc[train["label"] == 1, "movie_id"].value_counts().reindex(np.arange(MOVIES), fill_value=0)
    assert rankers.popularity(train, USERS, MOVIES)(new)[0].tolist() == likes.tolist()


def test_users_without_likes_get_the_popularity() -> None:
    train = pd.DataFrame(
        {"user_id": [0, 0, 1, 2], "movie_id": [0, 1, 1, 2], "label": [1, 1, 1, 0], "rating": [5, 4, 4, 2]},
        dtype=np.int32,
    )
    baselines = catalogue_baselines(train, 4, 3, seed=1)
    for name, own in (("implicit_als", rankers.implicit_als(train, 4, 3, seed=1)), ("ease", rankers.ease(train, 4, 3))):
        assert baselines[name](np.array([2, 3])).tolist() == [[1, 2, 0], [1, 2, 0]]
        assert baselines[name](np.array([0])).tolist() == own(np.array([0])).tolist()


@pytest.mark.parametrize(("users", "movies"), [(5, 8), (12, 5)])
def test_ease_without_likes_scores_zero(users: int, movies: int) -> None:
    train = pd.DataFrame({"user_id": [0, 1], "movie_id": [1, 2], "label": 0, "rating": 1})
    assert not rankers.ease(train, users, movies)(np.array([0, 3])).any()
