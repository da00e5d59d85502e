"""The model bundle: network, feature map, and the users and movies it knows, in one file; all that scoring needs."""

import io
import json
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from upath import UPath

from ml.errors import DataError
from ml.features.feature_map import FeatureMap
from ml.files import parse_json
from ml.models.autoint import embedded_positions, inner_network
from ml.models.layers import FieldEmbedding
from ml.models.saved_network import read_members, read_network

_NETWORK, _FEATURE_MAP, _USERS, _MOVIES = "network.keras", "feature_map.json", "users.parquet", "movies.parquet"
_NUMBERS = "numbers.json"
_MEMBERS = (_NETWORK, _FEATURE_MAP, _USERS, _MOVIES, _NUMBERS)


@dataclass(frozen=True)
class ModelBundle:
    """A trained network with all it needs to score raw ids.

    Attributes:
        network: from indices int32 [batch, features], and numeric features float32 [batch, numeric features] if there
            are any, to the probability of a like, float32 [batch, 1].
        feature_map: that the network was trained with.
        users: that the network knows, one row each, with the user features; in index order.
        movies: that the network knows, one row each, with the movie features, title and genres; in index order.
        numbers: columns that the network takes as numeric features.
    """

    network: keras.Model
    feature_map: FeatureMap
    users: pd.DataFrame
    movies: pd.DataFrame
    numbers: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        network: keras.Model,
        feature_map: FeatureMap,
        users: pd.DataFrame,
        movies: pd.DataFrame,
        numbers: tuple[str, ...] = (),
    ) -> "ModelBundle":
        """Bundle a network with the rows of the users and movies tables that the feature map knows."""
        return cls(
            network, feature_map, feature_map.known("user_id", users), feature_map.known("movie_id", movies), numbers
        )

    def save(self, path: Path) -> None:
        """Write a zip archive with a .keras file, JSON and Parquet; no pickle."""
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path, "w") as archive:
            network = Path(folder) / _NETWORK
            self.network.save(network)
            archive.write(network, _NETWORK)
            archive.writestr(_FEATURE_MAP, self.feature_map.to_json())
            archive.writestr(_NUMBERS, json.dumps(self.numbers))
            archive.writestr(_USERS, self.users.to_parquet(index=False))
            archive.writestr(_MOVIES, self.movies.to_parquet(index=False))

    @classmethod
    def load(cls, path: Path | UPath) -> "ModelBundle":
        """Read what ``save`` wrote; nothing in it is executed. Raises DataError where the file is no such archive."""
        return cls.from_bytes(path.read_bytes(), str(path))

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> "ModelBundle":
        """Read the content of a file that ``save`` wrote.

        Args:
            data: the file's content.
            where: the file's name in errors.

        Raises:
            DataError: it is no such archive.
        """
        members = read_members(data, _MEMBERS, where)
        feature_map = FeatureMap.from_json(members[_FEATURE_MAP], f"{where}, {_FEATURE_MAP}")
        numbers = parse_json(members[_NUMBERS], f"{where}, {_NUMBERS}")
        if not isinstance(numbers, list) or not all(isinstance(name, str) for name in numbers):
            raise DataError(f"{where}, {_NUMBERS}: expected a list of column names, found {numbers!r}")
        network = read_network(members[_NETWORK], f"{where}, {_NETWORK}")
        _require_fitting_network(network, feature_map, len(numbers), f"{where}, {_NETWORK}")
        tables = {
            key: _read_table(members[name], key, feature_map, f"{where}, {name}")
            for key, name in (("user_id", _USERS), ("movie_id", _MOVIES))
        }
        return cls(network, feature_map, tables["user_id"], tables["movie_id"], tuple(numbers))


def _read_table(data: bytes, key: str, feature_map: FeatureMap, where: str) -> pd.DataFrame:
    """Read a table with one row for each value of its key. Raises DataError for any other."""
    try:
        rows, expected = pq.read_metadata(io.BytesIO(data)).num_rows, list(feature_map[key].values)
        # A small file can declare any number of identical rows, so it is read only with the expected number.
        table = pd.read_parquet(io.BytesIO(data)) if rows == len(expected) else None
        values = None if table is None else table[key].tolist()
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError, MemoryError) as error:
        raise DataError(f"{where}: not a table ({error}); rebuild the model") from error
    if table is None:
        raise DataError(f"{where}: {rows:,} rows; expected {len(expected):,}, one for each known {key}")
    if values != expected:
        raise DataError(f"{where}: {key} differs from the feature map's; expected its values in index order")
    return table


def _require_fitting_network(network: keras.Model, feature_map: FeatureMap, numbers: int, where: str) -> None:
    """Raise DataError if the network's inputs and outputs do not match the feature map."""
    expected = [(None, len(feature_map.fields)), *[(None, numbers)] * bool(numbers)], [(None, 1)]
    found = [tuple(each.shape) for each in network.inputs], [tuple(each.shape) for each in network.outputs]
    if found != expected:
        raise DataError(f"{where}: inputs and outputs have the shapes {found}; expected {expected}")
    inner, dims = inner_network(network), np.array(feature_map.field_dims)
    positions = embedded_positions(inner)
    for layer in inner.layers:
        if isinstance(layer, FieldEmbedding) and list(layer.field_dims) != dims[positions].tolist():
            raise DataError(f"{where}: layer {layer.name!r} has other sizes than the feature map's features")
