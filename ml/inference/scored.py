"""Score many rows, here or on other machines."""

import numpy as np
import pandas as pd

from ml.inference.scorer import Scorer
from ml.models.bundle import ModelBundle
from ml.processors import Each


def score_rows(bundle: ModelBundle, encoded: pd.DataFrame, each: Each | None = None) -> np.ndarray:
    """Score rows that the bundle's feature map has encoded; probabilities, float32 [rows].

    Args:
        bundle: the model.
        encoded: the rows.
        each: scores parts of them on other machines; None: all is done here.
    """
    if each is None:
        return Scorer(bundle).score_encoded(encoded)
    rows = encoded[[*bundle.feature_map.names, *bundle.numbers]]
    parts = [rows.iloc[chosen] for chosen in np.array_split(np.arange(len(rows)), min(each.parts, max(len(rows), 1)))]
    scores = dict(each(_scorer, Scorer.score_encoded, parts, bundle.to_bytes()))
    return np.concatenate([scores[number] for number in range(len(parts))])


def _scorer(bundle: bytes) -> Scorer:
    return Scorer(ModelBundle.from_bytes(bundle, "the model to score with"))
