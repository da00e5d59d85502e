"""Collaborative features of a data set, fitted once for all recipes, and saved as one file.

A training row's own rating must not influence its features: they are computed out of fold, from tables fitted on the
rows of the other folds. All other rows use tables fitted on all training rows.
"""

import io
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from ml.errors import DataError
from ml.features.collaborative import CollaborativeConfig, CollaborativeTables, Columns, Part, parts_of
from ml.files import digest
from ml.processors import available_processors

_SIZES = "sizes"  # array of the file: numbers of training rows, users and movies
_ALL = (1, 0)  # the folds of tables that are fitted on all training rows
_REBUILD = "rebuild collaborative_features (make run)"
_LARGEST_WEIGHTS = 2 * 2**30  # bytes of EASE's matrices, [movies, movies], that are in memory at the same time


@dataclass(frozen=True)
class _Task:
    """A feature to fit without one fold. Of ``_ALL``, nothing is left out.

    Attributes:
        part: the feature.
        folds: number of folds.
        fold: the one that is left out.
    """

    part: Part
    folds: int
    fold: int

    @property
    def name(self) -> str:
        """Of the fitted columns; equal for equal settings."""
        return f"{digest(self.part.key.encode())}-{self.fold}-of-{self.folds}"

    def fit(self, train: pd.DataFrame, shape: tuple[int, int]) -> Columns:
        """Return the columns, float32."""
        kept = None if self.folds == 1 else np.arange(len(train)) % self.folds != self.fold
        return self.part.fit(train, shape, kept)


class CollaborativeFolds:
    """Fitted collaborative features: from all training rows, and from those without each fold.

    Row i of the training rows, which must come shuffled, belongs to fold ``i % folds``.

    Args:
        arrays: by name; those of the users' and of the movies' table of each fitted feature, and the sizes.

    Attributes:
        rows: number of training rows.
        shape: numbers of users and of movies.
    """

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays
        rows, users, movies = (int(size) for size in arrays[_SIZES])
        self.rows, self.shape = rows, (users, movies)

    @property
    def fits(self) -> int:
        """How many features were fitted, each without each fold and on all rows."""
        return (len(self._arrays) - 1) // 2

    @classmethod
    def fit(
        cls,
        train: pd.DataFrame,
        users: int,
        movies: int,
        configs: Iterable[CollaborativeConfig],
        threads: int | None = None,
    ) -> "CollaborativeFolds":
        """Fit what networks need; equal features with equal settings once.

        Args:
            train: indices user_id and movie_id, rating, label, and the affinity features.
            users: number of users.
            movies: number of movies.
            configs: which features, and how many folds, by network.
            threads: how many features are fitted at the same time, which changes no result; default: as many as there
                are processors, and as fit into memory.
        """
        wanted = list(configs)
        tasks = {task.name: task for config in wanted for task in _tasks(config)}
        arrays = {_SIZES: np.array([len(train), users, movies], np.int64)}
        threads = threads or _threads(movies, any(config.ease for config in wanted))
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
            fitted = pool.map(lambda task: task.fit(train, (users, movies)), tasks.values())
            for name, (user, movie) in zip(tasks, fitted, strict=True):
                arrays |= {f"{name}-users": user, f"{name}-movies": movie}
        return cls(arrays)

    def tables(self, config: CollaborativeConfig) -> CollaborativeTables:
        """Return a network's features, fitted on all training rows. Raises DataError for one that is not here."""
        return self._tables(config, *_ALL)

    def out_of_fold(
        self, config: CollaborativeConfig, rows: pd.DataFrame, sources: np.ndarray | None = None
    ) -> np.ndarray:
        """Return features, float32 [rows, features], each from tables fitted without the row's own fold.

        Args:
            config: which features.
            rows: indices user_id and movie_id.
            sources: int [rows], position of the training row whose fold each of ``rows`` shares; default: ``rows`` are
                the training rows.

        Raises:
            DataError: a feature is not here, or ``rows`` are not as many as the training rows.
        """
        if sources is None:
            if len(rows) != self.rows:
                raise DataError(f"found {len(rows)} rows without sources; expected the {self.rows} training rows")
            sources = np.arange(len(rows))
        row_fold = sources % config.folds
        features = np.empty((len(rows), len(parts_of(config))), np.float32)
        for fold in range(config.folds):
            own = row_fold == fold
            features[own] = self._tables(config, config.folds, fold).of(rows[own])
        return features

    def require(self, rows: int, users: int, movies: int) -> None:
        """Raise DataError unless fitted on this many training rows, users and movies."""
        if (self.rows, *self.shape) != (rows, users, movies):
            found = f"{self.rows} training rows, {self.shape[0]} users and {self.shape[1]} movies"
            raise DataError(
                f"collaborative features were fitted on {found}; expected {rows}, {users} and {movies}; {_REBUILD}"
            )

    def _tables(self, config: CollaborativeConfig, folds: int, fold: int) -> CollaborativeTables:
        parts = parts_of(config)
        columns = [self._columns(_Task(part, folds, fold)) for part in parts]
        return CollaborativeTables.of_columns([part.name for part in parts], columns)

    def _columns(self, task: _Task) -> Columns:
        if f"{task.name}-users" not in self._arrays:
            slot = f"without fold {task.fold} of {task.folds}" if task.folds > 1 else "on all training rows"
            raise DataError(f"collaborative features lack {task.part.name} ({task.part.key}) {slot}; {_REBUILD}")
        return self._arrays[f"{task.name}-users"], self._arrays[f"{task.name}-movies"]

    def to_bytes(self) -> bytes:
        """Return the content of a file: a NumPy archive without pickled objects."""
        buffer, arrays = io.BytesIO(), cast("dict[str, Any]", dict(self._arrays))
        np.savez(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> "CollaborativeFolds":
        """Return the features in a file's content.

        Args:
            data: from ``to_bytes``.
            where: what to call it in errors.

        Raises:
            DataError: it is no such file.
        """
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                return cls({name: archive[name] for name in archive.files})
        except Exception as error:  # whatever NumPy raises for damaged bytes
            raise DataError(f"{where}: not a file of collaborative features ({error}); rebuild it") from error


def _tasks(config: CollaborativeConfig) -> list[_Task]:
    """Return what is to be fitted: the features without each fold, and on all rows."""
    slots = [*((config.folds, fold) for fold in range(config.folds)), _ALL]
    return [_Task(part, folds, fold) for part in parts_of(config) for folds, fold in slots]


def _threads(movies: int, with_ease: bool) -> int:
    fitting = _LARGEST_WEIGHTS // (8 * movies**2) if with_ease else available_processors()
    return max(1, min(available_processors(), fitting))
