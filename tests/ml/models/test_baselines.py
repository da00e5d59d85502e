from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ml.evaluation.classification import auc, log_loss
from ml.features.feature_map import FeatureMap, encode_interactions
from ml.features.splits import split_interactions
from ml.models.baselines import BiasedMatrixFactorization, movie_mean_scores, random_scores


@pytest.fixture(scope="module")
def small_split(small_interactions: pd.DataFrame, small_feature_map: FeatureMap) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Encoded training and test rows of the small synthetic data set."""
    return split_interactions(encode_interactions(small_interactions, small_feature_map))


def tiny_ratings() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Six users and five movies, of which user 5 and movie 4 are unknown in training."""
    cells = [(user, movie) for user in range(6) for movie in range(5)]
    rng = np.random.default_rng(8)
    frame = pd.DataFrame(cells, columns=["user_id", "movie_id"], dtype="int32")
    frame["rating"] = rng.integers(1, 6, len(frame)).astype(np.int8)
    known = (frame["user_id"] < 5) & (frame["movie_id"] < 4)
    return frame[known & (rng.random(len(frame)) < 0.7)].sample(frac=1, random_state=1), frame


def slow_predictions(model: BiasedMatrixFactorization, train: pd.DataFrame, test: pd.DataFrame) -> list[float]:
    """The same alternating ridge regressions, one row at a time, each as least squares with the penalty as rows."""
    mean = train["rating"].mean()
    n_users, n_movies = (max(train[name].max(), test[name].max()) + 1 for name in ("user_id", "movie_id"))
    ratings = list(zip(train["user_id"], train["movie_id"], train["rating"], strict=True))
    by_user = [[(movie, rating) for user, movie, rating in ratings if user == own] for own in range(n_users)]
    by_movie = [[(user, rating) for user, movie, rating in ratings if movie == own] for own in range(n_movies)]

    def solve(own: list[tuple[int, int]], bias: np.ndarray, vectors: np.ndarray) -> tuple[float, np.ndarray]:
        root = np.sqrt(model.penalty + model.penalty_per_rating * len(own))
        design = [[1.0, *vectors[other]] for other, _ in own] + list(root * np.eye(model.factors + 1))
        target = [rating - mean - bias[other] for other, rating in own] + [0.0] * (model.factors + 1)
        weights = np.linalg.lstsq(np.array(design), np.array(target), rcond=None)[0]
        return weights[0], weights[1:]

    q = np.random.default_rng(model.seed).normal(0, 0.1, (n_movies, model.factors))
    b_movie = np.zeros(n_movies)
    for _ in range(model.iterations):
        b_user, p = map(np.array, zip(*[solve(own, b_movie, q) for own in by_user], strict=True))
        b_movie, q = map(np.array, zip(*[solve(own, b_user, p) for own in by_movie], strict=True))
    pairs = zip(test["user_id"], test["movie_id"], strict=True)
    return [mean + b_user[user] + b_movie[movie] + p[user] @ q[movie] for user, movie in pairs]


def test_random_scores_are_determined_by_the_seed() -> None:
    scores = random_scores(1000, 7)
    assert scores.shape == (1000,)
    assert scores.dtype == np.float64
    assert scores.tolist() == random_scores(1000, 7).tolist()
    assert scores.tolist() != random_scores(1000, 8).tolist()


def test_random_scores_are_uniform() -> None:
    scores = random_scores(20_000, 1)
    assert scores.min() >= 0
    assert scores.max() < 1
    shares = np.histogram(scores, bins=10, range=(0, 1))[0] / len(scores)
    assert shares == pytest.approx(np.full(10, 0.1), abs=0.01)


def test_movie_mean_by_hand() -> None:
    train = pd.DataFrame({"movie_id": [3, 3, 3, 8, 9], "label": [1, 1, 0, 0, 1]})
    test = pd.DataFrame({"movie_id": [8, 3, 5, 8]}, index=[40, 2, 7, 1])
    mean = 3 / 5
    scores = movie_mean_scores(train, test)
    eight, three = (0 + 10 * mean) / (1 + 10), (2 + 10 * mean) / (3 + 10)
    assert scores.tolist() == pytest.approx([eight, three, mean, eight])  # movie 5 was never seen
    assert scores.dtype == np.float64


@pytest.mark.parametrize(("prior_rows", "expected"), [(0.5, (1 + 0.5 * 0.25) / 1.5), (30, (1 + 30 * 0.25) / 31)])
def test_movie_mean_is_drawn_to_the_global_mean_by_the_prior(prior_rows: float, expected: float) -> None:
    train = pd.DataFrame({"movie_id": [1, 2, 2, 3], "label": [1, 0, 0, 0]})
    scores = movie_mean_scores(train, pd.DataFrame({"movie_id": [1]}), prior_rows)
    assert scores.tolist() == pytest.approx([expected])


@pytest.mark.parametrize("iterations", [1, 2, 7])
@pytest.mark.parametrize("factors", [1, 3])
def test_factorisation_is_that_of_a_slow_loop(factors: int, iterations: int) -> None:
    train, test = tiny_ratings()
    model = BiasedMatrixFactorization(factors, penalty=0.3, penalty_per_rating=0.05, iterations=iterations, seed=5)
    predictions = model.fit_predict(train, test)
    assert predictions.tolist() == pytest.approx(slow_predictions(model, train, test), abs=1e-8)
    assert predictions.dtype == np.float64


@pytest.mark.parametrize("change", [{"penalty": 0.6}, {"penalty_per_rating": 0.2}, {"seed": 6}, {"iterations": 3}])
def test_every_setting_of_the_factorisation_matters(change: dict[str, float]) -> None:
    train, test = tiny_ratings()
    model = BiasedMatrixFactorization(2, penalty=0.3, penalty_per_rating=0.05, iterations=2, seed=5)
    assert not np.allclose(replace(model, **change).fit_predict(train, test), model.fit_predict(train, test), atol=1e-6)


def test_unknown_user_with_unknown_movie_gets_the_mean_rating() -> None:
    train, test = tiny_ratings()
    predictions = BiasedMatrixFactorization(2).fit_predict(train, test)
    both = (test["user_id"] == 5) & (test["movie_id"] == 4)
    assert predictions[both].tolist() == pytest.approx([train["rating"].mean()])


def test_unknown_movie_gets_the_same_taste_free_rating_from_each_user() -> None:
    train, _ = tiny_ratings()
    test = pd.DataFrame({"user_id": [0, 0, 1, 1], "movie_id": [4, 5, 4, 5]})
    first, second, third, fourth = BiasedMatrixFactorization(2, penalty=0.3).fit_predict(train, test)
    assert (first, third) == pytest.approx((second, fourth))
    assert first != pytest.approx(third)


def test_factorisation_is_repeatable_and_ignores_the_order_of_the_rows() -> None:
    train, test = tiny_ratings()
    model = BiasedMatrixFactorization(3, penalty=0.3)
    predictions = model.fit_predict(train, test)
    assert model.fit_predict(train, test).tolist() == predictions.tolist()
    assert model.fit_predict(train[::-1], test[::-1])[::-1] == pytest.approx(predictions, abs=1e-9)


def test_factorisation_beats_the_movie_mean_which_beats_chance(small_split: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    train, test = small_split
    labels = test["label"].to_numpy()
    by_movie = movie_mean_scores(train, test)
    factorised = BiasedMatrixFactorization(factors=5).fit_predict(train, test)
    assert 0.45 < auc(labels, random_scores(len(test), 42)) < 0.55
    assert auc(labels, by_movie) > 0.6
    assert auc(labels, factorised) > auc(labels, by_movie) + 0.02
    base_rate = np.full(len(test), train["label"].mean())
    assert log_loss(labels, by_movie) < log_loss(labels, base_rate)
