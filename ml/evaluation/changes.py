"""How far two sets of top lists are apart."""

import pandas as pd


def list_changes(earlier: pd.DataFrame, later: pd.DataFrame) -> dict[str, float]:
    """Shares of the later lists' places that the earlier ones do not hold in the same way.

    - ``changed_places``: places (user and rank) with another movie than before, or that were not there.
    - ``new_movies``: places with a movie that was not in the user's list before, at any rank.

    Args:
        earlier: user_id, rank, movie_id, one row a listed movie, in any order.
        later: the same columns; one row at least.

    Returns:
        Both shares, from 0 to 1.

    Raises:
        ValueError: there are no later lists.
    """
    if later.empty:
        raise ValueError("no later lists, of which to give a share")
    columns_of = {
        "changed_places": ["user_id", "rank", "movie_id"],
        "new_movies": ["user_id", "movie_id"],
    }
    return {name: _share_not_in(earlier[columns], later[columns]) for name, columns in columns_of.items()}


def _share_not_in(known: pd.DataFrame, rows: pd.DataFrame) -> float:
    """Share of rows that are not among known ones."""
    return float((~pd.MultiIndex.from_frame(rows).isin(pd.MultiIndex.from_frame(known))).mean())
