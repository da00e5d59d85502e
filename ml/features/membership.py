"""Multi-valued features, such as a movie's genres, as a matrix for a network."""

import numpy as np
import pandas as pd


def membership_of(values: pd.Series, separator: str = "|") -> tuple[tuple[str, ...], np.ndarray]:
    """Return which values each item has, in equal shares that sum to 1.

    Args:
        values: one string per item, such as "Comedy|Drama"; a repeated value counts once.
        separator: between values.

    Returns:
        The distinct values, sorted, and the shares, float32 [items, values]: ``1 / q`` for each of an item's q values,
        else 0. An empty string has a row of zeros.
    """
    items = [set(text.split(separator)) - {""} for text in values]
    names = sorted(set().union(*items))
    shares = [[(name in item) / max(len(item), 1) for name in names] for item in items]
    return tuple(names), np.array(shares, np.float32).reshape(len(items), len(names))
