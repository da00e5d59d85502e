"""Top-10 lists for evaluation: movies of a user's test rows can be listed, those of the training rows cannot."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from ml.features.tables import latest_month
from ml.inference.engine.shortlist import SearchReport
from ml.inference.recommend import Progress, search_lists
from ml.inference.scorer import Scorer
from ml.inference.shards import Means

_LENGTH = 10
_MONTH = ["rating_year", "rating_month"]


def held_out_lists(
    scorer: Scorer,
    train_interactions: pd.DataFrame,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    means: Means | None = None,
) -> tuple[pd.DataFrame, SearchReport]:
    """List for every user the best ten movies without a training row, at the latest month of the training rows.

    Args:
        scorer: of the model.
        train_interactions: encoded rows that the model was trained on.
        on_progress: called after each block of users.
        means: how the search is carried out, see ``search_lists``.

    Returns:
        user_id (int32), rank (int16), movie_id (int32), ordered by user and rank; the ids are indices. And how the
        lists were found.
    """
    vocabularies = scorer.bundle.feature_map
    users, movies = (train_interactions[name].to_numpy() for name in ("user_id", "movie_id"))
    moment = vocabularies.years[-1], vocabularies.months[-1]
    if vocabularies.has_times:
        months = train_interactions[_MONTH].drop_duplicates()
        values = pd.DataFrame({name: np.array(vocabularies[name].values)[months[name]] for name in _MONTH})
        moment = latest_month(values)
    return unseen_lists(scorer, users, movies, moment, on_progress, means)


def unseen_lists(
    scorer: Scorer,
    users: np.ndarray,
    movies: np.ndarray,
    moment: tuple[int, int],
    on_progress: Callable[[Progress], None] = lambda progress: None,
    means: Means | None = None,
) -> tuple[pd.DataFrame, SearchReport]:
    """List the best ten movies of every user at a moment, except for the given pairs; returns as ``held_out_lists``.

    Args:
        scorer: of the model.
        users: user indices of the pairs, int [n].
        movies: movie indices of the pairs, int [n].
        moment: year and month (1-12).
        on_progress: called after each block of users.
        means: how the search is carried out, see ``search_lists``.
    """
    seen = scorer.matrix(users, movies, bool)
    [(lists, report)] = search_lists(scorer, seen, [moment], _LENGTH, on_progress=on_progress, means=means)
    user, place, movie = lists.entries()
    columns = {"user_id": user.astype(np.int32), "rank": (place + 1).astype(np.int16), "movie_id": movie}
    return pd.DataFrame(columns), report
