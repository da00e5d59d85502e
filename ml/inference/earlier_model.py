"""Ask an earlier model about what is there now: its encoders may lack some of the values and have other codes."""

import numpy as np
import pandas as pd

from ml.features.feature_map import FeatureMap
from ml.features.tables import latest_month
from ml.inference.held_out import held_out_lists
from ml.inference.scorer import Scorer


def score_known(scorer: Scorer, interactions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Which rows the model can score, bool [rows], and their probabilities, float32 [rows that it can].

    Args:
        scorer: of the model.
        interactions: raw values of all its fields, and its numbers.
    """
    known = scorer.bundle.feature_map.knows(interactions)
    return known, scorer.score_rows(interactions[known])


def latest_known_month(encoders: FeatureMap, ratings: pd.DataFrame) -> tuple[int, int]:
    """Year and month (1-12) of the latest rating whose year and month the model knows.

    Args:
        encoders: the model's.
        ratings: rating_year, rating_month.
    """
    known = [ratings[name].isin(encoders[name].index) for name in ("rating_year", "rating_month")]
    return latest_month(ratings[known[0] & known[1]])


def held_out_lists_of(
    scorer: Scorer, train_interactions: pd.DataFrame, encoders: FeatureMap, seed: int = 42
) -> pd.DataFrame:
    """``ml.inference.held_out.held_out_lists`` in the codes of other encoders.

    Args:
        scorer: of the model.
        train_interactions: raw values of all fields, of the present training rows; those with a value that the model
            does not know are left out.
        encoders: the present ones.
        seed: of the users that the search samples and audits.

    Returns:
        user_id (int32), rank (int16), movie_id (int32): codes. Ids without one are left out.
    """
    own = scorer.bundle.feature_map
    lists, _ = held_out_lists(scorer, own.transform(train_interactions[own.knows(train_interactions)]), seed)
    codes = {
        name: encoders[name].index.get_indexer(own[name].index[lists[name].to_numpy()]).astype(np.int32)
        for name in ("user_id", "movie_id")
    }
    recoded = lists.assign(**codes)
    return recoded[(recoded["user_id"] >= 0) & (recoded["movie_id"] >= 0)].reset_index(drop=True)
