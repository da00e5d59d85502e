"""Multi-valued features, such as a movie's genres, as a matrix for a network."""

import numpy as np
import pandas as pd

from ml.features.feature_map import FieldVocabulary


def membership_of(values: pd.Series, vocabulary: FieldVocabulary) -> np.ndarray:
    """Return which values each item has, in equal shares that sum to 1.

    Args:
        values: one string per item, such as "Comedy|Drama"; a repeated value counts once.
        vocabulary: of the feature.

    Returns:
        The shares, float32 [items, values]: ``1 / q`` for each of an item's q values, else 0. An empty string has a row
        of zeros.

    Raises:
        DataError: a value that the vocabulary lacks.
    """
    items = [sorted(set(text.split("|")) - {""}) for text in values]
    counts = np.array([len(item) for item in items], np.int64)
    shares = np.zeros((len(items), len(vocabulary.values)), np.float32)
    columns = vocabulary.encode([value for item in items for value in item])
    shares[np.repeat(np.arange(len(items)), counts), columns] = np.repeat(1 / np.maximum(counts, 1), counts)
    return shares
