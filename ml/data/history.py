"""Base rows and delivered rows together: all that ever came, and what holds now."""

from collections.abc import Sequence

import pandas as pd

BASE = 0  # in place of a delivery's number


def history(base: pd.DataFrame, delivered: pd.DataFrame) -> pd.DataFrame:
    """All rows in the order in which they came, base rows first.

    Args:
        base: rows of a base file.
        delivered: rows with the same columns and delivery, date; see ``ml.data.intake.Intake.read``.

    Returns:
        The columns of ``delivered``; of base rows, delivery is 0 and date is empty.
    """
    return pd.concat([base.assign(delivery=BASE, date=""), delivered], ignore_index=True).astype({"delivery": "int32"})


def base_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Those of a history that no delivery brought."""
    return rows[rows["delivery"] == BASE]


def present(rows: pd.DataFrame, key: Sequence[str], order: Sequence[str] = ()) -> pd.DataFrame:
    """The row that holds now of every key, in the order in which the keys first came.

    Args:
        rows: of ``history``.
        key: columns that tell one thing from another.
        order: columns by which the last row holds; equal ones by date of the file, then by delivery, then by line.

    Returns:
        The columns of ``rows`` without date, and first_delivery (int32), that of the key's first row.
    """
    key = list(key)
    came = rows.drop_duplicates(key)[[*key, "delivery"]].rename(columns={"delivery": "first_delivery"})
    holding = rows.sort_values([*order, "date", "delivery"], kind="stable").drop_duplicates(key, keep="last")
    columns = [*holding.columns.drop("date"), "first_delivery"]
    return came.merge(holding, on=key, how="left", validate="one_to_one")[columns]
