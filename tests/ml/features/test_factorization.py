import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from ml.features.factorization import FactorizationConfig, factorize

USERS, MOVIES = 6, 5


def tiny_ratings() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Six users and five movies, of which user 5 and movie 4 are unknown in training."""
    cells = [(user, movie) for user in range(USERS) for movie in range(MOVIES)]
    rng = np.random.default_rng(8)
    frame = pd.DataFrame(cells, columns=["user_id", "movie_id"], dtype="int32")
    frame["rating"] = rng.integers(1, 6, len(frame)).astype(np.int8)
    frame["label"] = (frame["rating"] >= 4).astype(np.int8)
    known = (frame["user_id"] < 5) & (frame["movie_id"] < 4)
    return frame[known & (rng.random(len(frame)) < 0.7)].sample(frac=1, random_state=1), frame


def predictions(train: pd.DataFrame, test: pd.DataFrame, config: FactorizationConfig) -> np.ndarray:
    return factorize(train, USERS, MOVIES, config).predict(test["user_id"].to_numpy(), test["movie_id"].to_numpy())


def slow_predictions(train: pd.DataFrame, test: pd.DataFrame, config: FactorizationConfig) -> list[float]:
    """The same alternating ridge regressions, one row at a time, each as least squares with the penalty as rows."""
    mean = train[config.target].mean()
    ratings = list(zip(train["user_id"], train["movie_id"], train[config.target], strict=True))
    by_user = [[(movie, rating) for user, movie, rating in ratings if user == own] for own in range(USERS)]
    by_movie = [[(user, rating) for user, movie, rating in ratings if movie == own] for own in range(MOVIES)]

    def solve(own: list[tuple[int, int]], bias: np.ndarray, vectors: np.ndarray) -> tuple[float, np.ndarray]:
        root = np.sqrt(config.penalty + config.penalty_per_rating * len(own))
        design = [[1.0, *vectors[other]] for other, _ in own] + list(root * np.eye(config.factors + 1))
        target = [rating - mean - bias[other] for other, rating in own] + [0.0] * (config.factors + 1)
        weights = np.linalg.lstsq(np.array(design), np.array(target), rcond=None)[0]
        return weights[0], weights[1:]

    q = np.random.default_rng(config.seed).normal(0, 0.1, (MOVIES, config.factors))
    b_movie = np.zeros(MOVIES)
    for _ in range(config.iterations):
        b_user, p = map(np.array, zip(*[solve(own, b_movie, q) for own in by_user], strict=True))
        b_movie, q = map(np.array, zip(*[solve(own, b_user, p) for own in by_movie], strict=True))
    pairs = zip(test["user_id"], test["movie_id"], strict=True)
    return [mean + b_user[user] + b_movie[movie] + p[user] @ q[movie] for user, movie in pairs]


@pytest.mark.parametrize("target", ["rating", "label"])
@pytest.mark.parametrize("iterations", [1, 2, 7])
@pytest.mark.parametrize("factors", [1, 3])
def test_is_that_of_a_slow_loop(factors: int, iterations: int, target: str) -> None:
    train, test = tiny_ratings()
    config = FactorizationConfig(
        target=target, factors=factors, penalty=0.3, penalty_per_rating=0.05, iterations=iterations, seed=5
    )
    found = predictions(train, test, config)
    assert found.tolist() == pytest.approx(slow_predictions(train, test, config), abs=1e-8)
    assert found.dtype == np.float64


@pytest.mark.parametrize(
    "change", [{"penalty": 0.6}, {"penalty_per_rating": 0.2}, {"seed": 6}, {"iterations": 3}, {"target": "label"}]
)
def test_every_setting_matters(change: dict[str, float]) -> None:
    train, test = tiny_ratings()
    config = FactorizationConfig(factors=2, penalty=0.3, penalty_per_rating=0.05, iterations=2, seed=5)
    changed = config.model_copy(update=change)
    assert not np.allclose(predictions(train, test, changed), predictions(train, test, config), atol=1e-6)


def test_unknown_user_with_unknown_movie_gets_the_mean_rating() -> None:
    train, test = tiny_ratings()
    found = predictions(train, test, FactorizationConfig(factors=2))
    both = (test["user_id"] == 5) & (test["movie_id"] == 4)
    assert found[both].tolist() == pytest.approx([train["rating"].mean()])


def test_unknown_movie_gets_a_taste_free_rating_from_each_user() -> None:
    train, _ = tiny_ratings()
    fitted = factorize(train, USERS, MOVIES, FactorizationConfig(factors=2, penalty=0.3))
    first, second = fitted.predict(np.array([0, 1]), np.array([4, 4]))
    assert (first, second) == pytest.approx((fitted.mean + fitted.users[0, 0], fitted.mean + fitted.users[1, 0]))
    assert first != pytest.approx(second)


def test_is_repeatable_and_ignores_the_order_of_the_rows() -> None:
    train, test = tiny_ratings()
    config = FactorizationConfig(factors=3, penalty=0.3)
    found = predictions(train, test, config)
    assert predictions(train, test, config).tolist() == found.tolist()
    assert predictions(train[::-1], test, config) == pytest.approx(found, abs=1e-9)


@pytest.mark.parametrize("settings", [{"factors": 0}, {"iterations": 0}, {"target": "clicks"}, {"rank": 3}])
def test_bad_settings_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        FactorizationConfig(**settings)  # type: ignore[arg-type]
