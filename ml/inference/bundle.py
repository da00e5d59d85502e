"""One file that holds all that scoring needs: the network, its feature map, and the users and movies it knows."""

import io
import json
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import keras
import pandas as pd

import ml.models.autoint  # noqa: F401 - registers the layers that a saved network refers to
from ml.errors import DataError
from ml.features.feature_map import FeatureMap

_NETWORK, _FEATURE_MAP, _USERS, _MOVIES = "network.keras", "feature_map.json", "users.parquet", "movies.parquet"
_NUMBERS = "numbers.json"


class ReadablePath(Protocol):
    """A local path or any other that can give its bytes, such as a ``upath.UPath``."""

    def read_bytes(self) -> bytes:
        """The whole file."""
        ...


@dataclass(frozen=True)
class ModelBundle:
    """A trained network with what it needs to score raw ids.

    Attributes:
        network: codes [batch, fields] int32, and numbers [batch, numbers] float32 where there are any, to the
            probability of a like [batch, 1] float32.
        feature_map: the encoders that the network was trained with.
        users: the users that the network knows, one row each, with the user fields; in code order.
        movies: the movies that the network knows, one row each, with the movie fields, title and genres; in code order.
        numbers: columns of a row that the network takes as numbers.
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
        """Bundle a network with the rows of the users and movies tables that its feature map knows."""
        return cls(
            network, feature_map, feature_map.known("user_id", users), feature_map.known("movie_id", movies), numbers
        )

    def save(self, path: Path) -> None:
        """Write a zip archive of a .keras file, JSON and Parquet; no pickle."""
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path, "w") as archive:
            network = Path(folder) / _NETWORK
            self.network.save(network)
            archive.write(network, _NETWORK)
            feature_map = Path(folder) / _FEATURE_MAP
            self.feature_map.save(feature_map)
            archive.write(feature_map, _FEATURE_MAP)
            archive.writestr(_NUMBERS, json.dumps(self.numbers))
            archive.writestr(_USERS, self.users.to_parquet(index=False))
            archive.writestr(_MOVIES, self.movies.to_parquet(index=False))

    @classmethod
    def load(cls, path: ReadablePath) -> "ModelBundle":
        """Read what ``save`` wrote. Raises DataError where the file is not such an archive."""
        try:
            archive = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
        except zipfile.BadZipFile as error:
            raise DataError(f"{path}: not a model bundle ({error}); materialize the model again") from error
        with archive, tempfile.TemporaryDirectory() as folder:
            if missing := {_NETWORK, _FEATURE_MAP, _USERS, _MOVIES, _NUMBERS} - set(archive.namelist()):
                raise DataError(f"{path}: not a model bundle, lacks {', '.join(sorted(missing))}")
            if damaged := archive.testzip():
                raise DataError(f"{path}: not a model bundle ({damaged} is damaged); materialize the model again")
            archive.extract(_NETWORK, folder)
            archive.extract(_FEATURE_MAP, folder)
            return cls(
                network=keras.saving.load_model(Path(folder) / _NETWORK, compile=False),
                feature_map=FeatureMap.load(Path(folder) / _FEATURE_MAP),
                users=pd.read_parquet(io.BytesIO(archive.read(_USERS))),
                movies=pd.read_parquet(io.BytesIO(archive.read(_MOVIES))),
                numbers=tuple(json.loads(archive.read(_NUMBERS))),
            )
