"""Combine base rows and ingested rows: the full history, and the current state."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

BASE = 0  # batch number of base rows


def history(base: pd.DataFrame, ingested: pd.DataFrame) -> pd.DataFrame:
    """Concatenate base rows and ingested rows, in order of arrival.

    Args:
        base: rows of a base file.
        ingested: rows with the same columns, ingestion_batch and date; see ``ml.data.received.Received.read``.

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


def present_in_blocks(
    base: Iterable[pd.DataFrame], ingested: pd.DataFrame, key: Sequence[str], order: str
) -> Iterator[pd.DataFrame]:
    """Return the current row of every key as ``present`` does, in blocks; only the ingested rows must fit into memory.

    Args:
        base: rows of the base files in blocks; no two have the same key.
        ingested: rows with the same columns, ingestion_batch and date.
        key: columns that identify a row.
        order: column to sort by.

    Returns:
        For each block of base rows their current rows, and then the rows of keys that only ingested rows have.
    """
    later = present(ingested, key, [order])
    is_new = np.ones(len(later), bool)
    for block in base:
        rows = block.assign(ingestion_batch=np.int32(BASE), first_ingestion_batch=np.int32(BASE))
        if len(later):
            places = _places(block, later, key)
            found = np.flatnonzero(places >= 0)
            own = later.take(places[found])
            is_new[places[found]] = False
            replaced = own[order].to_numpy() >= block[order].to_numpy()[found]  # of equal times, the ingested row
            current = own[replaced].assign(first_ingestion_batch=np.int32(BASE)).set_axis(found[replaced])
            kept = rows.reset_index(drop=True).drop(index=current.index)
            rows = pd.concat([kept, current]).sort_index() if len(current) else rows
        yield rows
    if is_new.any():
        yield later[is_new].reset_index(drop=True)


def _places(rows: pd.DataFrame, among: pd.DataFrame, key: Sequence[str]) -> np.ndarray:
    """Return where each row's key is among rows with distinct keys, int64 [rows]; -1 where it is not."""
    columns = list(key)
    places = among[columns].assign(place=np.arange(len(among)))
    return rows[columns].merge(places, on=columns, how="left")["place"].fillna(-1).to_numpy(np.int64)
