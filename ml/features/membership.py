"""Fields of several values, such as a movie's genres, as a matrix for a network."""

import numpy as np
import pandas as pd


def membership_of(values: pd.Series, separator: str = "|") -> tuple[tuple[str, ...], np.ndarray]:
    """Which values an item has, in equal shares that add up to 1.

    Args:
        values: one string an item, such as "Comedy|Drama"; a value named twice counts once.
        separator: between two values.

    Returns:
        The distinct values, sorted, and the shares, float32 [items, values]: ``1 / q`` for each of an item's q values,
        0 for the others. The row of an empty string is zeros.
    """
    items = [set(text.split(separator)) - {""} for text in values]
    names = sorted(set().union(*items))
    shares = [[(name in item) / max(len(item), 1) for name in names] for item in items]
    return tuple(names), np.array(shares, np.float32).reshape(len(items), len(names))
