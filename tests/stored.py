"""Read what the pipeline has stored."""

from pathlib import Path

import pandas as pd

from ml.features.tables import join_interactions


def stored_interactions(tables: Path) -> pd.DataFrame:
    """Return the interactions, which are not stored: the join of the tables in a directory."""
    return join_interactions(*(pd.read_parquet(tables / f"{name}.parquet") for name in ("users", "movies", "ratings")))
