"""A model's top lists for evaluation: the movies of the user's test rows are candidates, those trained on are not."""

from collections.abc import Callable

import pandas as pd

from ml.features.feature_map import FeatureMap
from ml.features.tables import latest_month
from ml.inference.engine.shortlist import SearchReport
from ml.inference.recommend import Progress, Recommender
from ml.inference.scorer import Scorer


def held_out_lists(
    scorer: Scorer,
    train_interactions: pd.DataFrame,
    seed: int = 42,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> tuple[pd.DataFrame, SearchReport]:
    """Top-10 lists of all users over movies that they have no training row of, at the latest month trained on.

    Args:
        scorer: of the model.
        train_interactions: the encoded rows that it was trained on.
        seed: of the users that the search samples and audits.
        on_progress: called after each block of users.

    Returns:
        user_id (int32), rank (int16), movie_id (int32), by user and rank, ids as codes; and how they were found.
    """
    feature_map = scorer.bundle.feature_map
    rated = pd.DataFrame(
        {
            "user_id": scorer.user_ids[train_interactions["user_id"]],
            "movie_id": scorer.movie_ids[train_interactions["movie_id"]],
        }
    )
    moment = latest_month(_decoded(train_interactions, feature_map, "rating_year", "rating_month"))
    [(top, report)] = Recommender(scorer, rated).recommend_all([moment], 10, seed=seed, on_progress=on_progress)
    codes = {name: scorer.positions(name, top[name]) for name in ("user_id", "movie_id")}
    return top[["user_id", "rank", "movie_id"]].assign(**codes), report


def _decoded(rows: pd.DataFrame, feature_map: FeatureMap, *names: str) -> pd.DataFrame:
    """Values of some fields' codes."""
    return pd.DataFrame({name: feature_map[name].index.to_numpy()[rows[name]] for name in names})
