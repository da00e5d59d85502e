"""Combine base rows and ingested rows: the full history, and the current state."""

from collections.abc import Sequence

import pandas as pd

BASE = 0  # batch number of base rows


def history(base: pd.DataFrame, ingested: pd.DataFrame) -> pd.DataFrame:
    """Concatenate base rows and ingested rows, in order of arrival.

    Args:
        base: rows of a base file.
        ingested: rows with the same columns, ingestion_batch and date; see ``ml.data.ingestion.Ingestion.read``.

    Returns:
        The columns of ``ingested``; for base rows, ingestion_batch is 0 and date is empty.
    """
    rows = pd.concat([base.assign(ingestion_batch=BASE, date=""), ingested], ignore_index=True)
    return rows.astype({"ingestion_batch": "int32"})


def base_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a history that come from the base files."""
    return rows[rows["ingestion_batch"] == BASE]


def present(rows: pd.DataFrame, key: Sequence[str], order: Sequence[str] = ()) -> pd.DataFrame:
    """Return the current row of every key, in the order in which the keys first arrived.

    Args:
        rows: result of ``history``.
        key: columns that identify a user, a movie or a rating.
        order: columns to sort by; the last row is current. Ties: file date, then batch, then line.

    Returns:
        The columns of ``rows`` without date, and first_ingestion_batch (int32), the batch of the key's first row.
    """
    key = list(key)
    first = {"ingestion_batch": "first_ingestion_batch"}
    first_seen = rows.drop_duplicates(key)[[*key, "ingestion_batch"]].rename(columns=first)
    current = rows.sort_values([*order, "date", "ingestion_batch"], kind="stable").drop_duplicates(key, keep="last")
    columns = [*current.columns.drop("date"), "first_ingestion_batch"]
    return first_seen.merge(current, on=key, how="left", validate="one_to_one")[columns]
