"""The model bundle: network, feature map, and the users and movies it knows, in one file; all that scoring needs."""

import io
import json
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import keras
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from upath import UPath

from ml import schema
from ml.errors import DataError
from ml.features.feature_map import FeatureMap
from ml.files import LARGEST_DOCUMENT, parse_json
from ml.models.autoint import embedded_positions, inner_network, rating_network
from ml.models.layers import FieldEmbedding
from ml.models.saved_network import LARGEST_NETWORK, read_members, read_network

_NETWORK, _FEATURE_MAP, _USERS, _MOVIES = "network.keras", "feature_map.json", "users.parquet", "movies.parquet"
_NUMBERS, _LISTS = "numbers.json", "lists.json"
_DIVERSITY = "diversity"
_LARGEST_TABLE = 256 * 2**20  # bytes, also of its texts when they are decoded
_MEMBERS = {
    _NETWORK: LARGEST_NETWORK,
    _FEATURE_MAP: LARGEST_DOCUMENT,
    _USERS: _LARGEST_TABLE,
    _MOVIES: _LARGEST_TABLE,
    _NUMBERS: 2**20,
}
_OPTIONAL = {_LISTS: 2**20}  # bundles of earlier releases lack it
# Tables may have these alone: pages of other compressions can be thousands of times as large as what is stored.
_CODECS = ("SNAPPY", "UNCOMPRESSED")
_SIDES: Mapping[str, schema.Side] = {"user_id": "user", "movie_id": "movie"}
_SHOWN = {"user_id": (), "movie_id": ("title", "genres")}  # columns that are not features


@dataclass(frozen=True)
class ModelBundle:
    """A trained network with all it needs to score raw ids.

    Attributes:
        network: from indices int32 [batch, features], and numeric features float32 [batch, numeric features] if there
            are any, to the probability of a like, float32 [batch, 1].
        feature_map: that the network was trained with.
        users: that the network knows, one row each, with the user features in ``used``, and ``first_timestamp`` for the
            feature ``days_since_first``; in index order.
        movies: that the network knows, one row each, with the movie features in ``used``, title and genres; in index
            order.
        numbers: columns that the network takes as numeric features.
        diversity: of the lists, see ``ml.inference.diversity``: 0 for the best movies, below 1.
    """

    network: keras.Model
    feature_map: FeatureMap
    users: pd.DataFrame
    movies: pd.DataFrame
    numbers: tuple[str, ...] = ()
    diversity: float = 0.0

    @classmethod
    def of(
        cls,
        network: keras.Model,
        feature_map: FeatureMap,
        users: pd.DataFrame,
        movies: pd.DataFrame,
        numbers: tuple[str, ...] = (),
        diversity: float = 0.0,
    ) -> "ModelBundle":
        """Bundle a network with the rows of the users and movies that it knows, and the columns that it uses.

        Anyone who can load a model can read the features of users in it, so it has only those that the network uses.
        """
        used = _used(network, feature_map)
        known = {
            key: feature_map.known(key, table[_columns(key, used)])
            for key, table in (("user_id", users), ("movie_id", movies))
        }
        return cls(network, feature_map, known["user_id"], known["movie_id"], numbers, diversity)

    @property
    def used(self) -> FeatureMap:
        """The part of the feature map that scoring needs: the keys, and the features that the network embeds."""
        return _used(self.network, self.feature_map)

    def save(self, path: Path) -> None:
        """Write a zip archive with a .keras file, JSON and Parquet; no pickle."""
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path, "w") as archive:
            network = Path(folder) / _NETWORK
            self.network.save(network)
            archive.write(network, _NETWORK)
            archive.writestr(_FEATURE_MAP, self.feature_map.to_json())
            archive.writestr(_NUMBERS, json.dumps(self.numbers))
            archive.writestr(_LISTS, json.dumps({_DIVERSITY: self.diversity}))
            archive.writestr(_USERS, self.users.to_parquet(index=False))
            archive.writestr(_MOVIES, self.movies.to_parquet(index=False))

    def to_bytes(self) -> bytes:
        """Return the content of a file that ``save`` writes."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "bundle.zip"
            self.save(path)
            return path.read_bytes()

    @classmethod
    def load(cls, path: Path | UPath) -> "ModelBundle":
        """Read what ``save`` wrote; nothing in it is executed. Raises DataError where the file is no such archive.

        Tables of earlier releases have all features; those that the network does not use are left out.
        """
        with path.open("rb") as file:
            return cls._read(file, str(path))

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> "ModelBundle":
        """Read the content of a file that ``save`` wrote.

        Args:
            data: the file's content.
            where: the file's name in errors.

        Raises:
            DataError: it is no such archive.
        """
        return cls._read(io.BytesIO(data), where)

    @classmethod
    def _read(cls, file: BinaryIO, where: str) -> "ModelBundle":
        members = read_members(file, _MEMBERS, where, _OPTIONAL)
        feature_map = FeatureMap.from_json(members[_FEATURE_MAP], f"{where}, {_FEATURE_MAP}")
        numbers = parse_json(members[_NUMBERS], f"{where}, {_NUMBERS}")
        if not isinstance(numbers, list) or not all(isinstance(name, str) for name in numbers):
            raise DataError(f"{where}, {_NUMBERS}: expected a list of column names, found {numbers!r}")
        network = read_network(members[_NETWORK], f"{where}, {_NETWORK}")
        _require_fitting_network(network, feature_map, len(numbers), f"{where}, {_NETWORK}")
        used = _used(network, feature_map)
        tables = {
            key: _read_table(members[name], key, feature_map, used, f"{where}, {name}")
            for key, name in (("user_id", _USERS), ("movie_id", _MOVIES))
        }
        diversity = _read_diversity(members[_LISTS], f"{where}, {_LISTS}") if _LISTS in members else 0.0
        return cls(network, feature_map, tables["user_id"], tables["movie_id"], tuple(numbers), diversity)


def _read_diversity(data: bytes, where: str) -> float:
    """Read the diversity of lists. Raises DataError."""
    document = parse_json(data, where)
    diversity = document.get(_DIVERSITY) if isinstance(document, dict) and len(document) == 1 else None
    if not isinstance(diversity, float) or not 0 <= diversity < 1:
        raise DataError(f"{where}: found {str(document)[:100]}; expected {_DIVERSITY}, a number from 0 to below 1")
    return diversity


def _used(network: keras.Model, feature_map: FeatureMap) -> FeatureMap:
    """Return the map of the keys and of the features that a network embeds."""
    positions = embedded_positions(inner_network(network))
    names = {*_SIDES, *np.array(feature_map.names)[positions].tolist()}
    return replace(feature_map, fields=tuple(field for field in feature_map.fields if field.name in names))


def _columns(key: str, features: FeatureMap) -> list[str]:
    """Return the columns of the table with this key that holds these features."""
    since = (schema.FIRST_TIMESTAMP,) if key == "user_id" and schema.DAYS_SINCE_FIRST in features.names else ()
    return list(dict.fromkeys((key, *features.side(_SIDES[key]).names, *since, *_SHOWN[key])))


def _earlier_columns(key: str, feature_map: FeatureMap) -> list[str]:
    """Return the columns of the same table of an earlier release, which held all features."""
    multivalued = feature_map.multivalued_names if key == "movie_id" else ()
    return list(dict.fromkeys((*_columns(key, feature_map), *multivalued)))


def _read_table(data: bytes, key: str, feature_map: FeatureMap, used: FeatureMap, where: str) -> pd.DataFrame:
    """Read the used features from a table with one row for each value of its key. Raises DataError for any other."""
    expected, columns = list(feature_map[key].values), _columns(key, used)
    try:
        # A small file can declare any number of identical rows or values, so both are counted before they are decoded.
        problem = _problem_of_table(data, len(expected), key, columns, _earlier_columns(key, feature_map))
        table = None if problem else pd.read_parquet(io.BytesIO(data), columns=columns)
        values = None if table is None else table[key].tolist()
    except Exception as error:  # whatever PyArrow and pandas raise for damaged bytes
        raise DataError(f"{where}: not a table ({error}); rebuild the model") from error
    if table is None:
        raise DataError(f"{where}: {problem}")
    if values != expected:
        raise DataError(f"{where}: {key} differs from the feature map's; expected its values in index order")
    return table


def _problem_of_table(data: bytes, rows: int, key: str, columns: list[str], earlier: list[str]) -> str | None:
    """Return what is wrong with the form of a Parquet file; None if it has these columns, or those of earlier."""
    metadata = pq.read_metadata(io.BytesIO(data))
    if metadata.num_rows != rows:
        return f"{metadata.num_rows:,} rows; expected {rows:,}, one for each known {key}"
    described = metadata.schema.to_arrow_schema()
    if sorted(described.names) not in (sorted(columns), sorted(earlier)):
        return f"found the columns {_listed(described.names)}; expected {_listed(columns)}"
    for field in described:
        is_number = pa.types.is_integer(field.type) or pa.types.is_floating(field.type)
        of_time = field.name == schema.FIRST_TIMESTAMP
        if (of_time and field.type != pa.int64()) or not (is_number or _is_text(field.type)):
            expected = "int64" if of_time else "numbers or texts"
            return f"the column {field.name} is of the type {str(field.type)[:100]}; expected {expected}"
    chunks = (
        metadata.row_group(group).column(column)
        for group in range(metadata.num_row_groups)
        for column in range(metadata.num_columns)
    )
    if strange := next((chunk for chunk in chunks if chunk.compression not in _CODECS), None):
        return f"the column {strange.path_in_schema} is compressed by {strange.compression}; expected {_CODECS[0]}"
    texts = [field.name for field in described if _is_text(field.type)]
    encoded = pq.read_table(io.BytesIO(data), columns=texts, read_dictionary=texts)
    if (size := sum(_text_bytes(column) for column in encoded.columns)) > _LARGEST_TABLE:
        return f"{size:,} bytes of text; expected at most {_LARGEST_TABLE:,}"
    return None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _text_bytes(column: pa.ChunkedArray) -> int:
    """Return how many bytes the texts of a dictionary-encoded column have when they are decoded."""
    total = 0
    for chunk in column.chunks:
        lengths = pc.binary_length(chunk.dictionary).to_numpy(zero_copy_only=False)
        total += int(lengths[chunk.indices.drop_null().to_numpy()].sum())
    return total


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))[:300]


def _require_fitting_network(network: keras.Model, feature_map: FeatureMap, numbers: int, where: str) -> None:
    """Raise DataError if the network's inputs and outputs do not match the feature map."""
    outputs = 1 if rating_network(network) is None else 2  # the second one is the rating
    expected = [(None, len(feature_map.fields)), *[(None, numbers)] * bool(numbers)], [(None, 1)] * outputs
    found = [tuple(each.shape) for each in network.inputs], [tuple(each.shape) for each in network.outputs]
    if found != expected:
        raise DataError(f"{where}: inputs and outputs have the shapes {found}; expected {expected}")
    inner, dims = inner_network(network), np.array(feature_map.field_dims)
    positions = embedded_positions(inner)
    if isinstance(positions, list) and max(positions) >= len(dims):
        raise DataError(f"{where}: selects the feature at position {max(positions)}; expected at most {len(dims) - 1}")
    for layer in inner.layers:
        if isinstance(layer, FieldEmbedding) and list(layer.field_dims) != dims[positions].tolist():
            raise DataError(f"{where}: layer {layer.name!r} has other sizes than the feature map's features")
