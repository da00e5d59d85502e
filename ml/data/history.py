"""Base rows and ingested rows together: all that ever came, and what holds now."""

from collections.abc import Sequence

import pandas as pd

BASE = 0  # in place of a batch's number


def history(base: pd.DataFrame, ingested: pd.DataFrame) -> pd.DataFrame:
    """All rows in the order in which they came, base rows first.

    Args:
        base: rows of a base file.
        ingested: rows with the same columns and batch, date; see ``ml.data.ingestion.Ingestion.read``.

    Returns:
        The columns of ``ingested``; of base rows, batch is 0 and date is empty.
    """
    rows = pd.concat([base.assign(ingestion_batch=BASE, date=""), ingested], ignore_index=True)
    return rows.astype({"ingestion_batch": "int32"})


def base_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Those of a history that no batch brought."""
    return rows[rows["ingestion_batch"] == BASE]


def present(rows: pd.DataFrame, key: Sequence[str], order: Sequence[str] = ()) -> pd.DataFrame:
    """The row that holds now of every key, in the order in which the keys first came.

    Args:
        rows: of ``history``.
        key: columns that tell one thing from another.
        order: columns by which the last row holds; equal ones by date of the file, then by batch, then by line.

    Returns:
        The columns of ``rows`` without date, and first_ingestion_batch (int32), that of the key's first row.
    """
    key = list(key)
    first = {"ingestion_batch": "first_ingestion_batch"}
    came = rows.drop_duplicates(key)[[*key, "ingestion_batch"]].rename(columns=first)
    holding = rows.sort_values([*order, "date", "ingestion_batch"], kind="stable").drop_duplicates(key, keep="last")
    columns = [*holding.columns.drop("date"), "first_ingestion_batch"]
    return came.merge(holding, on=key, how="left", validate="one_to_one")[columns]
