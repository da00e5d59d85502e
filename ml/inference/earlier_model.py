"""Apply an earlier model to present data: its vocabularies may lack some values, and its indices differ."""

import numpy as np
import pandas as pd

from ml.features.feature_map import FeatureMap
from ml.features.tables import latest_month
from ml.inference.held_out import unseen_lists
from ml.inference.scorer import Scorer

_KEYS = ("user_id", "movie_id")


def score_known(scorer: Scorer, interactions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Score the rows whose values the model knows.

    Args:
        scorer: of the model.
        interactions: raw values of all its features.

    Returns:
        Whether each row was scored, bool [rows]; and the probabilities of those rows, float32 [scored rows].
    """
    known = scorer.bundle.feature_map.knows(interactions)
    return known, scorer.score_rows(interactions[known])


def latest_known_month(encoders: FeatureMap, ratings: pd.DataFrame) -> tuple[int, int]:
    """Year and month (1-12) of the latest rating whose year and month the model knows.

    Args:
        encoders: the model's.
        ratings: rating_year, rating_month.
    """
    known = ratings["rating_year"].isin(encoders.years) & ratings["rating_month"].isin(encoders.months)
    return latest_month(ratings[known])


def held_out_lists_of(scorer: Scorer, train_interactions: pd.DataFrame, encoders: FeatureMap) -> pd.DataFrame:
    """Make ``ml.inference.held_out.held_out_lists`` of an earlier model, in the indices of present encoders.

    Args:
        scorer: of the model.
        train_interactions: raw values of all features of the present training rows. Rows with a value that the model
            does not know are left out.
        encoders: the present ones.

    Returns:
        user_id (int32), rank (int16), movie_id (int32); the ids are indices. Users and movies that the present
        encoders do not know are left out.
    """
    own = scorer.bundle.feature_map
    known = train_interactions[own.knows(train_interactions)]
    users, movies = (own[name].encode(known[name]) for name in _KEYS)
    lists, _ = unseen_lists(scorer, users, movies, latest_month(known))
    # Of each index of the earlier model the present one, -1 where there is none.
    present = {name: encoders[name].index.get_indexer(own[name].index).astype(np.int32) for name in _KEYS}
    translated = lists.assign(**{name: present[name][lists[name]] for name in _KEYS})
    return translated[(translated[list(_KEYS)] >= 0).all(axis=1)].reset_index(drop=True)
