import numpy as np
import pandas as pd
import pytest

from ml.evaluation.classification import auc, log_loss
from ml.features.feature_map import FeatureMap
from ml.features.splits import split_interactions
from ml.models.baselines import factorization_scores, movie_mean_scores, random_scores
from tests.feature_maps import encode_interactions


@pytest.fixture(scope="module")
def small_split(small_interactions: pd.DataFrame, small_feature_map: FeatureMap) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Encoded training and test rows of the small synthetic data set."""
    return split_interactions(encode_interactions(small_interactions, small_feature_map))


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


def test_factorisation_beats_the_movie_mean_which_beats_chance(small_split: tuple[pd.DataFrame, pd.DataFrame]) -> None:
    train, test = small_split
    labels = test["label"].to_numpy()
    by_movie = movie_mean_scores(train, test)
    factorised = factorization_scores(train, test, seed=42)
    assert 0.45 < auc(labels, random_scores(len(test), 42)) < 0.55
    assert auc(labels, by_movie) > 0.6
    assert auc(labels, factorised) > auc(labels, by_movie) + 0.02
    base_rate = np.full(len(test), train["label"].mean())
    assert log_loss(labels, by_movie) < log_loss(labels, base_rate)
