"""How sure the difference between two models is, given that other users might have been drawn."""

from collections.abc import Mapping
from itertools import combinations, product

import numpy as np
import pandas as pd

from ml import schema
from ml.evaluation.ranking import RANKING_METRICS, ranking_metrics_by_user

_CELLS = 2**21  # of one chunk of resamples; as counts and as floats they take 32 MiB


def compare_models(
    test_interactions: pd.DataFrame, scores: Mapping[str, np.ndarray], resamples: int = 2000, seed: int = 42
) -> pd.DataFrame:
    """Mean differences between models and their paired percentile bootstrap 95 % intervals over users.

    Users with a positive test row are drawn with replacement, the same draws for every pair and metric (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).

    Args:
        test_interactions: encoded test rows: user_id, movie_id, label.
        scores: [rows] float of each model, the higher the better.
        resamples: draws of as many users as there are.
        seed: of the draws.

    Returns:
        One row for each unordered pair, in the mapping's order, and metric of ``RANKING_METRICS``. Columns model_a,
        model_b, metric (str), difference (mean over users of a - b), low, high (float64).

    Raises:
        ValueError: fewer than two models, a model with scores for more or fewer rows than the test rows, or no user
            with a positive row.
    """
    by_user = _metrics_by_user(test_interactions, scores)
    pairs = list(combinations(by_user, 2))
    # Differences of users, not of means, so that equal models differ by exactly 0 in every resample.
    differences = np.concatenate([by_user[a] - by_user[b] for a, b in pairs], axis=1)
    low, high = np.percentile(_resampled_means(differences, resamples, seed), [2.5, 97.5], axis=0)
    keys = [(*pair, metric) for pair, metric in product(pairs, RANKING_METRICS)]
    table = pd.DataFrame(keys, columns=["model_a", "model_b", "metric"])
    return table.assign(difference=differences.mean(axis=0), low=low, high=high)


def _metrics_by_user(test_interactions: pd.DataFrame, scores: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Metrics of each model, float64 [users, metrics], the same users in the same order for all."""
    if len(scores) < 2:
        raise ValueError(f"two models or more can be compared, got {list(scores)}")
    for model, values in scores.items():
        if len(values) != len(test_interactions):
            raise ValueError(f"{model} has {len(values)} scores for {len(test_interactions)} test rows")
    users, items, labels = (test_interactions[name].to_numpy() for name in ("user_id", "movie_id", schema.LABEL))
    if not labels.any():
        raise ValueError("no user has a positive test row")
    return {model: ranking_metrics_by_user(users, items, labels, values).to_numpy() for model, values in scores.items()}


def _resampled_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means over drawn users, float64 [resamples, columns], of values [users, columns]."""
    users = len(values)
    rng = np.random.default_rng(seed)
    chunk = max(1, _CELLS // users)
    means = []
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        counts = rng.multinomial(users, np.full(users, 1 / users), size=size)  # how often each user was drawn
        means.append(counts.astype(np.float64) @ values / users)
    return np.concatenate(means)
