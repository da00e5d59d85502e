"""What a person sees of a value in the Dagster UI."""

import base64
from collections.abc import Mapping
from typing import Any

import dagster as dg
import pandas as pd


def table_metadata(table: pd.DataFrame) -> dict[str, Any]:
    """Row count, column schema and the first five rows."""
    columns = [dg.TableColumn(str(name), str(dtype)) for name, dtype in table.dtypes.items()]
    return {
        "dagster/row_count": len(table),
        "dagster/column_schema": dg.TableSchema(columns=columns),
        "preview": markdown_table(table.head()),
    }


def markdown_table(table: pd.DataFrame, index: bool = False) -> dg.MarkdownMetadataValue:
    """A small frame as a Markdown table."""
    return dg.MetadataValue.md(gaps_as_none(table).to_markdown(index=index, floatfmt=".5g", missingval="–"))


def gaps_as_none(table: pd.DataFrame) -> pd.DataFrame:
    """None in place of NaN, which the printing of tables leaves blank."""
    return table.astype(object).where(table.notna(), None)


def counts_metadata(values: pd.Series) -> dg.MarkdownMetadataValue:
    """How often each value occurs, in the order of the values."""
    counts = values.value_counts().sort_index()
    table = pd.DataFrame({str(values.name): counts.index, "rows": counts.to_numpy()})
    table["share"] = table["rows"] / table["rows"].sum()
    return markdown_table(table)


def plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Numpy scalars as the Python numbers that Dagster accepts."""
    return {key: value.item() if hasattr(value, "item") else value for key, value in facts.items()}


def inline_picture(alt: str, png: bytes) -> dg.MarkdownMetadataValue:
    """A small PNG that the UI shows in place; it is stored in Dagster's database, so keep it below 60 kB."""
    return dg.MetadataValue.md(f"![{alt}](data:image/png;base64,{base64.b64encode(png).decode()})")
