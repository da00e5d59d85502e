"""Compute confidence intervals of the differences between models, by a bootstrap over users."""

from collections.abc import Mapping
from functools import lru_cache
from itertools import combinations, product

import numpy as np
import pandas as pd

from ml import schema
from ml.evaluation.catalogue import catalogue_metrics_by_user
from ml.evaluation.ranking import ranking_metrics_by_user

_CELLS = 2**21  # cells per chunk of resamples, whose floats take 16 MiB


def compare_models(
    test_interactions: pd.DataFrame, scores: Mapping[str, np.ndarray], resamples: int = 2000, seed: int = 42
) -> pd.DataFrame:
    """Compare models by the metrics in ``RANKING_METRICS`` of their scores of the test rows.

    Args:
        test_interactions: encoded test rows: user_id, movie_id, label.
        scores: float [rows] by model, higher is better.
        resamples: see ``compare_by_user``.
        seed: see ``compare_by_user``.

    Returns:
        See ``compare_by_user``.

    Raises:
        ValueError: the number of scores differs from the number of test rows; or as ``compare_by_user``.
    """
    for model, values in scores.items():
        if len(values) != len(test_interactions):
            raise ValueError(f"{model} has {len(values)} scores for {len(test_interactions)} test rows")
    users, items, labels = (test_interactions[name].to_numpy() for name in ("user_id", "movie_id", schema.LABEL))
    by_user = {model: ranking_metrics_by_user(users, items, labels, values) for model, values in scores.items()}
    return compare_by_user(by_user, resamples, seed)


def compare_lists(
    test_interactions: pd.DataFrame, lists: Mapping[str, pd.DataFrame], resamples: int = 2000, seed: int = 42
) -> pd.DataFrame:
    """Compare models by the metrics in ``CATALOGUE_USER_METRICS`` of their top lists over the whole catalog.

    Args:
        test_interactions: encoded test rows: user_id, movie_id, label.
        lists: top lists by model, see ``catalogue_metrics_by_user``.
        resamples: see ``compare_by_user``.
        seed: see ``compare_by_user``.

    Returns:
        See ``compare_by_user``.
    """
    by_user = {model: catalogue_metrics_by_user(test_interactions, own) for model, own in lists.items()}
    return compare_by_user(by_user, resamples, seed)


def compare_by_user(by_user: Mapping[str, pd.DataFrame], resamples: int = 2000, seed: int = 42) -> pd.DataFrame:
    """Compute mean differences between models, with paired percentile bootstrap 95 % intervals over users.

    Users with a positive test row are sampled with replacement; every pair and metric uses the same samples (Efron and
    Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).

    Args:
        by_user: metrics by model: float64 columns, one row per user; all models have the same users and columns.
        resamples: number of bootstrap samples, each with as many users as the data.
        seed: random seed of the samples.

    Returns:
        One row for each metric of each unordered pair, in the mapping's order. Columns model_a, model_b, metric (str),
        difference (mean over users of a minus b), low, high (float64); NaN if there is no user.

    Raises:
        ValueError: fewer than two models, or models with different users or metrics.
    """
    if len(by_user) < 2:
        raise ValueError(f"expected at least two models, got {list(by_user)}")
    first = next(iter(by_user.values()))
    for model, metrics in by_user.items():
        if not (metrics.index.equals(first.index) and metrics.columns.equals(first.columns)):
            raise ValueError(f"{model} has different users or metrics than {next(iter(by_user))}")
    pairs = list(combinations(by_user, 2))
    # Differences per user, not of means, so that equal models differ by exactly 0 in every resample.
    differences = np.concatenate([(by_user[a] - by_user[b]).to_numpy() for a, b in pairs], axis=1)
    keys = [(*pair, metric) for pair, metric in product(pairs, first.columns)]
    table = pd.DataFrame(keys, columns=["model_a", "model_b", "metric"])
    if first.empty:  # no user has a positive test row
        return table.assign(difference=np.nan, low=np.nan, high=np.nan)
    low, high = np.percentile(_resampled_means(differences, resamples, seed), [2.5, 97.5], axis=0)
    return table.assign(difference=differences.mean(axis=0), low=low, high=high)


def _resampled_means(values: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Return means over sampled users, float64 [resamples, columns], of values [users, columns]."""
    users = len(values)
    return np.concatenate([part.astype(np.float64) @ values / users for part in _samples(users, resamples, seed)])


@lru_cache(maxsize=1)  # a step compares several pairs of models on the same users, and drawing takes most of the time
def _samples(users: int, resamples: int, seed: int) -> tuple[np.ndarray, ...]:
    """Return how often each user is in each bootstrap sample, uint16 [resamples, users], in chunks of rows."""
    rng = np.random.default_rng(seed)
    chunk = max(1, _CELLS // users)
    sizes = [min(chunk, resamples - start) for start in range(0, resamples, chunk)]
    # One of n users is sampled about once, and 2^16 times only with a probability below 1 / (2^16)!.
    return tuple(rng.multinomial(users, np.full(users, 1 / users), size=size).astype(np.uint16) for size in sizes)
