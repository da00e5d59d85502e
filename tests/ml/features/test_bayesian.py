"""Bayesian matrix factorization: predictions against the truth behind the ratings, its parts against slow versions."""

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from scipy import sparse

from ml.features.bayesian import BayesianConfig, _Mean, _Side, bayesian_factors, truncated_product
from ml.features.factorization import FactorizationConfig, factorize
from ml.features.implicit import implicit_factors
from ml.features.sides import Sides
from tests.collaborative import without_features

USERS, MOVIES = 120, 60
NOISE = 0.3
QUICK = BayesianConfig(factors=3, iterations=40, burn_in=10, width=8, implicit_rank=4)


def truth(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ratings of all pairs without noise, [users, movies], and each user's taste, 0 or 1.

    Users of one taste like the first half of the movies, those of the other the second half.
    """
    rng = np.random.default_rng(seed)
    taste = rng.integers(0, 2, USERS)
    sign = np.where(np.arange(MOVIES) < MOVIES // 2, 1, -1)
    biases = rng.normal(scale=0.3, size=USERS)[:, None] + rng.normal(scale=0.3, size=MOVIES)[None, :]
    return 3 + biases + 0.8 * (2 * taste - 1)[:, None] * sign[None, :], taste


def sampled(ratings: np.ndarray, share: np.ndarray, seed: int) -> pd.DataFrame:
    """Return noisy ratings of a share of the pairs, [users, movies]."""
    rng = np.random.default_rng(seed)
    users, movies = np.nonzero(rng.random(ratings.shape) < share)
    values = ratings[users, movies] + rng.normal(scale=NOISE, size=len(users))
    rows = pd.DataFrame({"user_id": users, "movie_id": movies, "rating": values})
    return rows.assign(label=(rows["rating"] >= 4).astype("int8"))


def sides_of(taste: np.ndarray) -> Sides:
    """Return each user's taste, and in which half each movie is."""
    nobody = without_features(USERS, MOVIES)
    return Sides(nobody.users.assign(taste=taste), nobody.movies.assign(half=np.arange(MOVIES) // (MOVIES // 2)))


def error(factors: tuple[np.ndarray, np.ndarray], ratings: np.ndarray, users: np.ndarray | slice) -> float:
    """Return the root mean square difference to the ratings without noise."""
    left, right = factors
    return float(np.sqrt(np.mean((left @ right.T - ratings)[users] ** 2)))


def test_predictions_are_close_to_the_ratings_without_noise() -> None:
    ratings, taste = truth(1)
    train = sampled(ratings, np.full(ratings.shape, 0.4), 2)
    found = error(bayesian_factors(train, sides_of(taste), QUICK), ratings, slice(None))
    plain = factorize(train, *ratings.shape, FactorizationConfig(factors=3, penalty=1))
    users, movies = (index.ravel() for index in np.indices(ratings.shape))
    least_squares = np.sqrt(np.mean((plain.predict(users, movies) - ratings.ravel()) ** 2))
    assert found < 0.5 * NOISE
    assert found < least_squares


def test_a_known_feature_helps_users_with_few_ratings() -> None:
    ratings, taste = truth(3)
    few = np.arange(USERS) < USERS // 2
    share = np.where(few, 0.03, 0.5)[:, None] * np.ones(MOVIES)
    train = sampled(ratings, share, 4)
    config = QUICK.model_copy(update={"user_fields": ("taste",), "movie_fields": ("half",)})
    known = np.intersect1d(np.flatnonzero(few), train["user_id"])
    without, with_feature = (
        error(bayesian_factors(train, sides_of(taste), each), ratings, known) for each in (QUICK, config)
    )
    assert with_feature < 0.8 * without


def test_users_without_ratings_are_predicted_from_what_is_known_of_them() -> None:
    ratings, taste = truth(17)
    unknown = np.arange(USERS) < USERS // 4
    share = np.where(unknown, 0, 0.4)[:, None] * np.ones(MOVIES)
    config = QUICK.model_copy(update={"user_fields": ("taste",), "movie_fields": ("half",)})
    left, right = bayesian_factors(sampled(ratings, share, 18), sides_of(taste), config)
    predicted = (left @ right.T)[unknown]
    for own in (predicted[taste[unknown] == value] for value in (0, 1)):
        assert own == pytest.approx(np.tile(own[0], (len(own), 1)), abs=1e-4)
    biases = ratings[unknown] - ratings[unknown].mean(axis=1, keepdims=True)
    found = predicted - predicted.mean(axis=1, keepdims=True)
    assert np.sqrt(np.mean((found - biases) ** 2)) < 0.5 * biases.std()


def test_who_rated_what_helps_users_with_few_ratings() -> None:
    """Users rate what they like, and say nothing with their ratings: all are alike but for noise."""
    ratings, taste = truth(5)
    sign = ratings - ratings.mean(axis=1, keepdims=True) - ratings.mean(axis=0, keepdims=True) + ratings.mean() > 0
    train = sampled(ratings, np.where(sign, 0.25, 0.01), 6)
    without, with_implicit = (
        error(bayesian_factors(train, sides_of(taste), config), ratings, slice(None))
        for config in (QUICK.model_copy(update={"implicit_rank": 0}), QUICK)
    )
    assert with_implicit < 0.9 * without


def test_the_same_seed_gives_the_same_factors_and_another_seed_similar_ones() -> None:
    ratings, taste = truth(7)
    train = sampled(ratings, np.full(ratings.shape, 0.4), 8)
    first, again = (bayesian_factors(train, sides_of(taste), QUICK) for _ in range(2))
    other = bayesian_factors(train, sides_of(taste), QUICK.model_copy(update={"seed": 1}))
    for left, right in zip(first, again, strict=True):
        assert left.tolist() == right.tolist()
    difference = np.abs(first[0] @ first[1].T - other[0] @ other[1].T)
    assert 0 < difference.mean() < 0.3 * NOISE


def test_a_movie_without_ratings_is_predicted_like_an_average_one() -> None:
    ratings, taste = truth(9)
    share = np.full(ratings.shape, 0.4)
    share[:, 0] = 0
    users, movies = bayesian_factors(sampled(ratings, share, 10), sides_of(taste), QUICK)
    predicted = users @ movies[0]
    assert predicted.mean() == pytest.approx(ratings.mean(), abs=0.3)
    assert predicted.std() < 0.6


def test_the_factors_are_no_wider_than_width() -> None:
    ratings, taste = truth(11)
    train = sampled(ratings, np.full(ratings.shape, 0.4), 12)
    users, movies = bayesian_factors(train, sides_of(taste), QUICK.model_copy(update={"width": 2}))
    assert (users.shape, movies.shape) == ((USERS, 2), (MOVIES, 2))


def test_the_mean_of_products_is_exact_where_it_is_narrow_enough() -> None:
    rng = np.random.default_rng(13)
    basis = rng.normal(size=(20, 3)), rng.normal(size=(15, 3))  # all products have the same three dimensions
    pairs = [(basis[0] @ rng.normal(size=(3, 4)), basis[1] @ rng.normal(size=(3, 4))) for _ in range(21)]
    mean = _Mean(3)
    for pair in pairs:
        mean.add(*pair)
    left, right = mean.factors()
    assert left @ right.T == pytest.approx(np.mean([one @ other.T for one, other in pairs], axis=0), abs=1e-9)


def test_a_truncated_product_is_the_best_approximation() -> None:
    rng = np.random.default_rng(14)
    left, right = rng.normal(size=(20, 6)), rng.normal(size=(15, 6))
    outer, values, inner = np.linalg.svd(left @ right.T)
    found = truncated_product(left, right, 2)
    assert found[0] @ found[1].T == pytest.approx((outer[:, :2] * values[:2]) @ inner[:2], abs=1e-9)
    assert truncated_product(left[:3], right, 5)[0].shape == (3, 3)


def test_the_prior_is_drawn_around_what_the_weights_say() -> None:
    """Weights with a known slope on one feature, mean and precision: draws of the three come back to them."""
    rng, rows = np.random.default_rng(15), 4000
    feature = rng.normal(size=(rows, 1))
    covariance = np.array([[0.5, 0.2], [0.2, 0.3]])
    weights = [1.0, -2.0] + feature * [0.7, 0.1] + rng.normal(size=(rows, 2)) @ np.linalg.cholesky(covariance).T
    side = _Side(feature, sparse.csr_array(np.ones((rows, 1))), 2, 1.0, rng)
    side.weights[:] = weights
    draws = []
    for _ in range(60):
        side.draw_prior()
        at = [side.means[np.argmin(np.abs(feature - value))] for value in (-1, 1)]
        draws.append((*at, np.linalg.inv(side.precision)))
    low, high, spread = (np.mean(each, axis=0) for each in zip(*draws[20:], strict=True))
    assert low == pytest.approx([1 - 0.7, -2 - 0.1], abs=0.04)
    assert high == pytest.approx([1 + 0.7, -2 + 0.1], abs=0.04)
    assert spread == pytest.approx(covariance, abs=0.03)


def test_implicit_factors_are_those_of_the_scaled_matrix() -> None:
    rated = np.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 1, 1, 1], [0, 0, 1, 0]])
    users, movies = np.nonzero(rated)
    found = implicit_factors(pd.DataFrame({"user_id": users, "movie_id": movies}), rated.shape, 2)
    by_user, by_movie = rated.sum(axis=1), rated.sum(axis=0)
    scaled = rated / by_user[:, None] ** 0.5 / by_movie[None, :] ** 0.25
    transposed = rated.T / by_movie[:, None] ** 0.5 / by_user[None, :] ** 0.25
    for factors, matrix in zip(found, (scaled, transposed), strict=True):
        outer, values, _ = np.linalg.svd(matrix)
        best = outer[:, :2] * values[:2]
        assert factors @ factors.T == pytest.approx(best @ best.T, abs=1e-9)  # the same but for rotation


def test_without_a_second_user_there_is_no_implicit_feedback() -> None:
    rows = pd.DataFrame({"user_id": [0, 0], "movie_id": [0, 1], "rating": [3, 5]})
    users, movies = bayesian_factors(rows, without_features(1, 2), QUICK)
    assert implicit_factors(rows, (1, 2), 4)[0].shape == (1, 0)
    assert np.isfinite(users @ movies.T).all()


def test_no_draws_to_keep_are_refused() -> None:
    with pytest.raises(ValidationError, match="burn_in is 40; expected fewer than iterations, 40"):
        BayesianConfig(iterations=40, burn_in=40)


def test_fields_that_a_data_set_lacks_are_left_out() -> None:
    config = BayesianConfig(user_fields=("gender", "age"), movie_fields=("genre1",))
    assert config.within(["age", "genre1"]).fields == ("age", "genre1")
