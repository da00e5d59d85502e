"""Read anybody's tables: CSV or Parquet files whose columns a description names."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ml import schema
from ml.data.datasets import Dataset, IdType, Items, Ratings, Side, columns_of
from ml.data.formats import FileFormat, Format
from ml.data.lines import Layout, Place, read_lines
from ml.data.manifest import MOVIES, RATINGS, USERS
from ml.data.slots import slots_of
from ml.errors import DataError

NO_VALUE = "unknown"  # instead of a category or number that is missing
_DTYPES = {"string": "str", "integer": "int32", "numeric": "float64", "rating": "float32", "timestamp": "int64"}
_FILLED = {"rating": 1, "timestamp": 0}  # of ratings whose file has no such column
_YEAR_3000 = 32_503_680_000
_BLOCK_ROWS = 2**20  # of a Parquet file that are read at once


def table_format(name: str, tables: Dataset) -> Format:
    """Return the format of a data set's own tables.

    Args:
        name: of the data set.
        tables: its description. Paths are relative to the directory that is read.
    """
    ids: dict[str, IdType] = {"user_id": tables.ids.user, "movie_id": tables.ids.item}
    files = {}
    if tables.users:
        files[USERS] = _side_file("user_id", ids, tables.users)
    if tables.items:
        files[MOVIES] = _side_file("movie_id", ids, tables.items)
    if not tables.ratings:
        raise ValueError("expected a data set of the reader table")
    files[RATINGS] = _ratings_file(ids, tables.ratings)
    return Format(
        f"tables of {name}",
        files,
        _description(tables),
        partial(_prepared, tables.users),
        partial(_prepared_items, tables.items),
        may_repeat=True,
    )


def _description(tables: Dataset) -> schema.Description:
    fields = [schema.Field("user_id", "user"), schema.Field("movie_id", "movie")]
    sides: tuple[tuple[schema.Side, Side | None], ...] = (("movie", tables.items), ("user", tables.users))
    for side, table in sides:
        for name, feature in table.features.items() if table else ():
            fields += [schema.Field(column, side, feature.kind) for column in columns_of(name, feature)]
    if tables.ratings and tables.ratings.timestamp:
        fields += [field for field in schema.FIELDS if field.side == "context"]
    features = tables.items.features if tables.items else {}
    multivalued = tuple(name for name, feature in features.items() if feature.kind == "multivalued")
    return schema.Description(tuple(fields), multivalued, None if tables.liked == "all" else tables.liked)


def _side_file(key: str, ids: Mapping[str, IdType], side: Side) -> FileFormat:
    columns = {key: side.key} | {name: feature.column or name for name, feature in side.features.items()}
    kinds: dict[str, str] = {key: ids[key]} | {name: feature.kind for name, feature in side.features.items()}
    if isinstance(side, Items) and side.title:
        columns["title"], kinds["title"] = side.title, "title"
    separators = {name: feature.separator for name, feature in side.features.items()}
    return _file(side.path, columns, kinds, separators)


def _ratings_file(ids: Mapping[str, IdType], ratings: Ratings) -> FileFormat:
    columns, kinds = {"user_id": ratings.user, "movie_id": ratings.item}, dict[str, str](ids)
    if ratings.rating:
        columns["rating"], kinds["rating"] = ratings.rating, "rating"
    if ratings.timestamp:
        columns["timestamp"], kinds["timestamp"] = ratings.timestamp, "timestamp"
    return _file(ratings.path, columns, kinds, filled=_FILLED)


def _file(
    path: str,
    columns: Mapping[str, str],
    kinds: dict[str, str],
    separators: Mapping[str, str] = {},
    filled: Mapping[str, int] = {},
) -> FileFormat:
    """Describe one kind of file.

    Args:
        path: file or pattern of files.
        columns: names in the file, by those in the table.
        kinds: what each column is.
        separators: of multi-valued columns.
        filled: values of columns that the table has in any case.
    """
    dtypes = {name: _DTYPES.get(kind, "str") for name, kind in (kinds | {name: name for name in filled}).items()}
    read, first, unit = (_csv, 2, "line") if Path(path).suffix == ".csv" else (_parquet, 1, "row")

    def parse(place: Place, table: pa.Table) -> pd.DataFrame:
        frame = pd.DataFrame(
            {name: _column(place, table[name], kind, name, separators.get(name, "|")) for name, kind in kinds.items()}
        )
        return frame.assign(**{name: value for name, value in filled.items() if name not in frame})

    def read_rows(file: Path) -> pd.DataFrame:
        return pd.concat([parse(place, table) for place, table in read(file, columns)], ignore_index=True)

    return FileFormat(path, dtypes, read_rows, first, unit)


def _csv(path: Path, columns: Mapping[str, str]) -> Iterator[tuple[Place, pa.Table]]:
    """Read columns of a CSV file as strings, by the names of the table, in blocks. Raises DataError."""
    wanted = dict.fromkeys(columns.values())  # two columns of the table may come from one of the file
    layout = Layout({name: name for name in wanted}, ",", has_header=True, has_others=True)
    for lines in read_lines(path, layout):
        yield lines.place, pa.table({name: lines.table[column] for name, column in columns.items()})


def _parquet(path: Path, columns: Mapping[str, str]) -> Iterator[tuple[Place, pa.Table]]:
    """Read columns of a Parquet file, by the names of the table, in blocks. Raises DataError."""
    row = 1
    try:
        with pq.ParquetFile(path) as file:
            if missing := [name for name in columns.values() if name not in file.schema_arrow.names]:
                found = ", ".join(file.schema_arrow.names)
                raise DataError(f"{path}: lacks the columns {', '.join(missing)}; it has {found}")
            for batch in file.iter_batches(_BLOCK_ROWS, columns=list(dict.fromkeys(columns.values()))):
                batch.validate(full=True)  # text that is not UTF-8 would fail much later
                named = {name: pa.chunked_array([batch[column]]) for name, column in columns.items()}
                yield Place(path, row, "row"), pa.table(named)
                row += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as Parquet ({error}); fix or replace the file") from error
    if row == 1:
        raise DataError(f"{path}: no rows")


def _column(place: Place, values: pa.ChunkedArray, kind: str, name: str, separator: str) -> pd.Series:
    """Read a column, every value validated. Raises DataError."""
    if kind == "multivalued":
        return _many(place, values, name, separator)
    if kind == "timestamp":
        return _times(place, values)
    texts = _texts(place, values, name)
    if kind in ("numeric", "rating"):
        return _numbers(place, texts, name, may_lack=kind == "numeric")
    if kind == "integer":
        readable = texts.str.fullmatch("[0-9]{1,10}")
        expected = f"{name} as a whole number from 0 to {schema.LARGEST_ID}"
        place.require(readable, texts, expected)
        numbers = texts.astype("int64")
        place.require(numbers <= schema.LARGEST_ID, texts, expected)
        return numbers
    place.require(~texts.str.contains("[\x00-\x1f\x7f]", regex=True), texts, f"{name} without control characters")
    if kind == "string":
        fits = (texts.str.strip() == texts) & (texts != "") & (texts.str.len() <= schema.LONGEST_ID)
        place.require(fits, texts, f"{name}: 1 to {schema.LONGEST_ID} characters without spaces around them")
    if kind == "title":
        place.require(texts.str.strip() != "", texts, "a title")
    return texts


def _texts(place: Place, values: pa.ChunkedArray, name: str) -> pd.Series:
    """Return values as strings; missing ones are empty. Raises DataError for types such as lists."""
    try:
        return values.cast(pa.string()).fill_null("").to_pandas().astype("str")
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{place.path}: column of {name}: expected text or numbers, found {values.type}") from error


def _numbers(place: Place, texts: pd.Series, name: str, may_lack: bool) -> pd.Series:
    numbers = pd.to_numeric(texts.where(texts.str.strip() != "", "nan"), errors="coerce")
    finite = numbers.abs() <= np.finfo(np.float32).max  # ratings are stored as float32
    valid = finite | ((texts.str.strip() == "") & may_lack)
    place.require(valid, texts, f"{name} as a number")
    return numbers.astype("float64")


def _times(place: Place, values: pa.ChunkedArray) -> pd.Series:
    """Return Unix seconds of numbers, or of dates and times; those without a time zone are UTC."""
    if pa.types.is_timestamp(values.type) or pa.types.is_date(values.type):
        seconds = values.cast(pa.timestamp("s"), safe=False).cast(pa.int64()).to_pandas()
        texts = pc.cast(values, pa.string()).to_pandas().fillna("").astype("str")
    else:
        texts = _texts(place, values, "timestamp")
        whole = texts.str.fullmatch("[0-9]{1,12}")
        dates = pd.to_datetime(texts.where(~whole), format="ISO8601", utc=True, errors="coerce")
        since = dates.dt.as_unit("us") - pd.Timestamp(0, tz="UTC").as_unit("us")  # nanoseconds cannot tell the year 0
        seconds = pd.Series(np.where(dates.isna(), np.nan, since.dt.total_seconds()))
        seconds = seconds.where(~whole, pd.to_numeric(texts.where(whole), errors="coerce"))
    expected = "a time from 1970 on: Unix seconds, or a date and time such as 2024-05-01T12:30:00Z"
    place.require(seconds.notna() & (seconds >= 0) & (seconds < _YEAR_3000), texts, expected)
    return np.floor(seconds).astype("int64")


def _many(place: Place, values: pa.ChunkedArray, name: str, separator: str) -> pd.Series:
    """Return several values each as one string, joined by ``|``."""
    if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
        found = [[str(value) for value in each or () if value is not None] for each in values.to_pylist()]
    else:
        found = [text.split(separator) for text in _texts(place, values, name)]
    joined = pd.Series(["|".join(value.strip() for value in each if value.strip()) for each in found], dtype="str")
    separated = np.array([sum("|" in value for value in each) == 0 for each in found])
    place.require(separated, joined, f"values of {name} without '|'")
    return joined


def _prepared(side: Side | None, rows: pd.DataFrame, base: pd.DataFrame) -> pd.DataFrame:
    """Derive the features of a side's rows: categories, ranges of numbers, and slots of multi-valued features."""
    derived: dict[str, pd.Series] = {}
    for name, feature in side.features.items() if side else ():
        if feature.kind == "numeric":
            derived[name] = _ranges(rows[name], base[name], feature.bins)
        elif feature.kind == "categorical":
            derived[name] = rows[name].where(rows[name] != "", NO_VALUE)
        else:
            derived |= slots_of(name, rows[name])
    return rows.assign(**derived)


def _prepared_items(side: Items | None, rows: pd.DataFrame, base: pd.DataFrame) -> pd.DataFrame:
    """Derive the features of items; lists show a title, and genres and a year, which only movies have."""
    titles = rows["title"] if "title" in rows else rows["movie_id"].astype("str")
    return _prepared(side, rows, base).assign(title=titles, genres="", movie_year=np.int16(schema.NO_YEAR))


def _ranges(numbers: pd.Series, base: pd.Series, bins: int) -> pd.Series:
    """Return each number's range as text; the limits are quantiles of the base files' numbers."""
    known = base.dropna().to_numpy()
    limits = np.unique(np.quantile(known, np.arange(1, bins) / bins, method="higher")).tolist() if len(known) else []
    texts = [_said(low, high) for low, high in zip([None, *limits], [*limits, None], strict=True)]
    position = np.searchsorted(limits, numbers.to_numpy(), side="right")
    return pd.Series(np.array(texts)[position], index=numbers.index, dtype="str").where(numbers.notna(), NO_VALUE)


def _said(low: float | None, high: float | None) -> str:
    """Say a range: its lower limit belongs to it, its upper one does not."""
    if low is None or high is None:
        return "all" if low is high else f"below {high!r}" if low is None else f"{low!r} or more"
    return f"{low!r} to {high!r}"
