"""Values as metadata for the pages of the Dagster UI."""

import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import dagster as dg
import pandas as pd

from ml.schema import id_type
from orchestration.reporting.columns import meaning

SETTINGS = "settings"  # of an asset: its default launch settings; of a materialization: those it was built with
SOURCE_FILE = "source_file"  # of an asset: the kind of raw file it is read from; of a materialization: its digest
SOURCE_MEANING = "source_meaning"  # of a materialization: digest of what datasets.yaml says of its files
_PADDED_BAR = re.compile(r" *(?<!\\)\| *")  # between cells
_RULE = re.compile(r"(?<=[|:])-+(?=[|:])")  # below the names
_SAFE_IN_ADDRESS = " ='/:;,.()-"
_IDS = ("user_id", "movie_id")  # a string such as "1e5" is no number


def table_metadata(head: pd.DataFrame, rows: int, asset: str) -> dict[str, Any]:
    """Row count, column schema and the first five rows of an asset's table.

    Args:
        head: the first rows, or all of them.
        rows: how many there are.
        asset: name of the asset.
    """
    columns = [dg.TableColumn(str(name), str(dtype), meaning(asset, str(name))) for name, dtype in head.dtypes.items()]
    return {
        "dagster/row_count": rows,
        "dagster/column_schema": dg.TableSchema(columns=columns),
        "preview": preview(head),
    }


def preview(table: pd.DataFrame) -> dg.MarkdownMetadataValue:
    """The first five rows."""
    return markdown_table(table.head())


def markdown_table(table: pd.DataFrame, index: bool = False) -> dg.MarkdownMetadataValue:
    """A small frame as a Markdown table, without padding, since the UI hides long texts."""
    cells = table.map(lambda cell: cell.replace("|", r"\|") if isinstance(cell, str) else cell)
    ids = [index + position for position, name in enumerate(table) if name in _IDS and id_type(table[name]) is str]
    literal = ids if len(table) else []  # tabulate knows no columns of a table without rows
    padded = gaps_as_none(cells).to_markdown(index=index, floatfmt=".5g", missingval="–", disable_numparse=literal)
    return dg.MetadataValue.md(_RULE.sub("-", _PADDED_BAR.sub("|", padded)))


def gaps_as_none(table: pd.DataFrame) -> pd.DataFrame:
    """The frame with None instead of NaN, so that ``to_markdown`` prints its ``missingval``."""
    return table.astype(object).where(table.notna(), None)


def counts_metadata(values: pd.Series) -> dg.MarkdownMetadataValue:
    """How often each value occurs, sorted by value."""
    counts = values.value_counts().sort_index()
    table = pd.DataFrame({str(values.name): counts.index, "rows": counts.to_numpy()})
    table["share"] = table["rows"] / table["rows"].sum()
    return markdown_table(table)


def plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts with Python numbers instead of NumPy scalars, and text instead of NaN and infinity.

    Dagster accepts no NumPy scalars, and JSON has no NaN: the UI could not read the page.
    """
    values = {key: value.item() if hasattr(value, "item") else value for key, value in facts.items()}
    return {key: _as_text(value) if _is_no_number(value) else value for key, value in values.items()}


def _is_no_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def _as_text(value: float) -> str:
    return "not measured" if math.isnan(value) else "infinite"


def drawing(alt: str, svg: str) -> dg.MarkdownMetadataValue:
    """A small chart. The UI shows Markdown of up to 999 characters in place, and more behind a button."""
    return dg.MetadataValue.md(f"![{alt}](<data:image/svg+xml,{quote(svg, safe=_SAFE_IN_ADDRESS)}>)")


def figures(values: Mapping[str, float]) -> dict[str, float]:
    """Finite numbers for the UI to plot over time: whole numbers exactly, others to five digits."""
    known = {name: value for name, value in values.items() if math.isfinite(value)}
    return {name: value if float(value).is_integer() else float(f"{value:.5g}") for name, value in known.items()}


def figures_by_model(table: pd.DataFrame) -> dict[str, float]:
    """``figures`` of a frame with one row per model: ``<model>.<metric>``."""
    return figures({f"{model}.{metric}": value for metric in table for model, value in table[metric].items()})
