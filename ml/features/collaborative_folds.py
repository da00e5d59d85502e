"""Collaborative features of a data set, fitted once for all recipes, and saved as one file.

A training row's own rating must not influence its features: they are computed out of fold, from tables fitted on the
rows of the other folds. All other rows use tables fitted on all training rows.

A feature of the next item needs other folds: parts of each user's history, predicted from what comes before. In random
folds, most rows that are left out lie far before the state that predicts them, and a network might learn to ignore it.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from ml.errors import DataError
from ml.features.collaborative import CollaborativeConfig, CollaborativeTables, Columns, Part, parts_of
from ml.features.next_item import NextItemLearner, folds_by_time
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
        if self.folds == 1:
            return self.part.fit(train, shape)
        if not self.part.by_time:
            return self.part.fit(train, shape, np.arange(len(train)) % self.folds != self.fold)
        row_fold = folds_by_time(train, self.folds)
        return self.part.fit(train, shape, row_fold != self.fold, row_fold < self.fold)


class CollaborativeFolds:
    """Fitted collaborative features: from all training rows, and from those without each fold.

    Row i of the training rows, which must come shuffled, belongs to fold ``i % folds``; for parts by time, to that of
    ``folds_by_time``.

    Args:
        arrays: by name; those of the users' and of the movies' table of each fitted feature, the sizes, and the folds
            by time.

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
        return sum(name.endswith("-users") for name in self._arrays)

    @classmethod
    def fit(
        cls,
        train: pd.DataFrame,
        users: int,
        movies: int,
        configs: Iterable[CollaborativeConfig],
        threads: int | None = None,
        learn_next_items: NextItemLearner | None = None,
    ) -> "CollaborativeFolds":
        """Fit what networks need; equal features with equal settings once.

        Args:
            train: indices user_id and movie_id, rating, label, the affinity features, and for ``sequence`` timestamp
                and row.
            users: number of users.
            movies: number of movies.
            configs: which features, and how many folds, by network.
            threads: how many features are fitted at the same time, which changes no result; default: as many as there
                are processors, and as fit into memory.
            learn_next_items: trains the networks of ``sequence``, see ``ml.training.next_item``; None will do without.
        """
        wanted = list(configs)
        tasks = {task.name: task for config in wanted for task in _tasks(config, learn_next_items)}
        arrays = {_SIZES: np.array([len(train), users, movies], np.int64)}
        for folds in sorted({task.folds for task in tasks.values() if task.part.by_time} - {1}):
            arrays[_by_time(folds)] = folds_by_time(train, folds).astype(np.int16)
        threads = threads or _threads(movies, any(config.ease for config in wanted))
        with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
            fitted = pool.map(lambda task: task.fit(train, (users, movies)), tasks.values())
            for name, (user, movie) in zip(tasks, fitted, strict=True):
                arrays |= {f"{name}-users": user, f"{name}-movies": movie}
        return cls(arrays)

    def tables(self, config: CollaborativeConfig) -> CollaborativeTables:
        """Return a network's features, fitted on all training rows. Raises DataError for one that is not here."""
        return self._tables(parts_of(config), *_ALL)

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
        parts, pairs = parts_of(config), rows[["user_id", "movie_id"]]
        features = np.empty((len(rows), len(parts)), np.float32)
        for by_time in {part.by_time for part in parts}:
            chosen = np.flatnonzero([part.by_time == by_time for part in parts])
            row_fold = self._row_folds(config.folds)[sources] if by_time else sources % config.folds
            for fold in range(config.folds):
                own = np.flatnonzero(row_fold == fold)
                tables = self._tables([parts[number] for number in chosen], config.folds, fold)
                features[np.ix_(own, chosen)] = tables.of(pairs.iloc[own])
        return features

    def has(self, config: CollaborativeConfig) -> bool:
        """Whether all features of a network are here, without each fold and on all rows."""
        return all(f"{task.name}-users" in self._arrays for task in _tasks(config, None))

    def require(self, rows: int, users: int, movies: int) -> None:
        """Raise DataError unless fitted on this many training rows, users and movies."""
        if (self.rows, *self.shape) != (rows, users, movies):
            found = f"{self.rows} training rows, {self.shape[0]} users and {self.shape[1]} movies"
            raise DataError(
                f"collaborative features were fitted on {found}; expected {rows}, {users} and {movies}; {_REBUILD}"
            )

    def _tables(self, parts: Sequence[Part], folds: int, fold: int) -> CollaborativeTables:
        columns = [self._columns(_Task(part, folds, fold)) for part in parts]
        return CollaborativeTables.of_columns([part.name for part in parts], columns)

    def _row_folds(self, folds: int) -> np.ndarray:
        """Return the training rows' folds by time, int16 [rows]."""
        if _by_time(folds) not in self._arrays:
            raise DataError(f"collaborative features lack the training rows' {folds} folds by time; {_REBUILD}")
        return self._arrays[_by_time(folds)]

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


def _by_time(folds: int) -> str:
    """Return the name of the array with the training rows' folds by time, int16 [rows]."""
    return f"fold-by-time-of-{folds}"


def _tasks(config: CollaborativeConfig, learn_next_items: NextItemLearner | None) -> list[_Task]:
    """Return what is to be fitted: the features without each fold, and on all rows."""
    slots = [*((config.folds, fold) for fold in range(config.folds)), _ALL]
    return [_Task(part, folds, fold) for part in parts_of(config, learn_next_items) for folds, fold in slots]


def _threads(movies: int, with_ease: bool) -> int:
    fitting = _LARGEST_WEIGHTS // (8 * movies**2) if with_ease else available_processors()
    return max(1, min(available_processors(), fitting))
