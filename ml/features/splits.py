"""Split the interactions into training and test rows."""

import math
from typing import Final, Literal, get_args

import numpy as np
import pandas as pd

from ml.data.history import BASE

Split = Literal["random", "sequential", "temporal", "paper"]
SPLITS: tuple[Split, ...] = get_args(Split)
RANDOM: Final = "random"
TEMPORAL: Final = "temporal"
PAPER: Final = "paper"
USED: Final = ("rating", "timestamp", "first_ingestion_batch")  # columns that decide where a row goes
_NEUTRAL_RATING = 3
_TEST_SHARE = {PAPER: 0.1}  # 0.2 for the others


def split_interactions(
    interactions: pd.DataFrame, strategy: Split = RANDOM, test_share: float | None = None, seed: int = 42
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the training and test rows of ``split_positions``, for tables in memory.

    They have the columns of ``interactions``, and ``row`` (int64), the position there.
    """
    train, test = split_positions(interactions, strategy, test_share, seed)
    return _take(interactions, train), _take(interactions, test)


def split_positions(
    interactions: pd.DataFrame, strategy: Split = RANDOM, test_share: float | None = None, seed: int = 42
) -> tuple[np.ndarray, np.ndarray]:
    """Split into training and test rows; training rows are shuffled, so that their tail can serve as validation rows.

    Args:
        interactions: rows in file order, with those of the columns ``USED`` that there are. ``temporal`` needs
            ``timestamp``, ``paper`` needs ``rating``. ``first_ingestion_batch`` is 0 for base rows; without it, all
            rows are base rows.
        strategy: ``random`` is scikit-learn's ``train_test_split`` on the base rows in file order; each later batch is
            split by its own draws, so that no row changes sides when others arrive. ``sequential`` trains on the first
            rows, ``temporal`` on the earliest. ``paper`` is ``random`` without ratings of 3 (Song et al., "AutoInt",
            CIKM 2019, section 5.1).
        test_share: share of test rows, in (0, 1); default: 0.1 for ``paper``, else 0.2.
        seed: of the random split and the shuffling.

    Returns:
        Positions of the training and of the test rows, int64 [n] each.

    Raises:
        ValueError: the strategy is unknown, or the share is outside (0, 1).
    """
    if strategy not in SPLITS:
        raise ValueError(f"split strategy {strategy!r}; expected one of {', '.join(SPLITS)}")
    if test_share is None:
        test_share = _TEST_SHARE.get(strategy, 0.2)
    if not 0 < test_share < 1:
        raise ValueError(f"test_share {test_share}; expected a share between 0 and 1")
    rows = np.arange(len(interactions))
    if strategy == PAPER:
        rows = rows[splittable(interactions, strategy)]
    if strategy in (RANDOM, PAPER):
        from sklearn.model_selection import train_test_split

        came = _first_batch(interactions)[rows]
        train, test = train_test_split(rows[came == BASE], test_size=test_share, random_state=seed)
        later = rows[came != BASE]
        tested = _draw(came[came != BASE], test_share, seed)
        test = np.concatenate([test, later[tested]])
        learned = later[~tested]  # inserted at random, so that the tail can still serve as validation rows
        places = np.random.default_rng([seed, len(learned)]).integers(0, len(train) + 1, len(learned))
        train = np.insert(train, places, learned)
    else:
        if strategy == TEMPORAL:
            rows = np.argsort(interactions["timestamp"].to_numpy(), kind="stable")
        train, test = np.split(rows, [len(rows) - math.ceil(len(rows) * test_share)])
        train = np.random.default_rng(seed).permutation(train)
    return train, test


def _first_batch(interactions: pd.DataFrame) -> np.ndarray:
    if "first_ingestion_batch" not in interactions:
        return np.full(len(interactions), BASE, np.int32)
    return interactions["first_ingestion_batch"].to_numpy()


def _draw(batches: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Return which rows are test rows, bool [rows]; each batch is drawn independently of the others."""
    tested = np.zeros(len(batches), bool)
    for batch in np.unique(batches):
        rows = np.flatnonzero(batches == batch)
        tested[rows] = np.random.default_rng([seed, batch]).random(len(rows)) < share
    return tested


def splittable(interactions: pd.DataFrame, strategy: Split) -> np.ndarray:
    """Return which rows a strategy uses, bool [rows]; the others are neither training nor test rows."""
    if strategy == PAPER:
        return interactions["rating"].to_numpy() != _NEUTRAL_RATING
    return np.ones(len(interactions), bool)


def _take(interactions: pd.DataFrame, rows: np.ndarray) -> pd.DataFrame:
    return interactions.iloc[rows].assign(row=rows).reset_index(drop=True)
