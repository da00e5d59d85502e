"""Collaborative features of a data set, fitted once for all recipes, and saved as one file.

A training row's own rating must not influence its features: they are computed out of fold, from tables fitted on the
rows of the other folds. All other rows use tables fitted on all training rows.

Of a share of the users, all rows are in one fold. For the tables without it, they are strangers, so that a network also
learns from rows whose user has no ratings yet.

A feature of the next item needs other folds: parts of each user's history, predicted from what comes before. In random
folds, most rows that are left out lie far before the state that predicts them, and a network might learn to ignore it.
"""

import io
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from ml.data.blocks import BLOCK_ROWS
from ml.data.mapped import mapped_array, release
from ml.errors import DataError
from ml.features.collaborative import CollaborativeConfig, Part, parts_of
from ml.features.collaborative_tables import CollaborativeTables, Columns
from ml.features.ease import MOST_ITEMS
from ml.features.next_item import NextItemLearner, folds_by_time
from ml.features.sides import Sides
from ml.files import digest
from ml.processors import Each, available_processors

_SIZES = "sizes"  # array of the file: numbers of training rows, users and movies
_REBUILD = "rebuild collaborative_features (make run)"
_LARGEST_WEIGHTS = 2 * 2**30  # bytes of EASE's matrices, [movies, movies], that are in memory at the same time


@dataclass(frozen=True)
class _Division:
    """How the training rows are divided into folds.

    Attributes:
        folds: number of folds; 1: they are not divided, and nothing is left out.
        stranger_share: share of the users all of whose rows are in one fold.
        by_time: whether folds are parts of each user's history in the order of time; else, they are random.
    """

    folds: int = 1
    stranger_share: float = 0.0
    by_time: bool = False

    @property
    def name(self) -> str:
        """Of the array with the training rows' folds."""
        return f"folds-{self.folds}{'-by-time' if self.by_time else f'-strangers-{self.stranger_share:g}'}"

    def of(self, train: pd.DataFrame) -> np.ndarray:
        """Return the fold of each training row, int16 [rows]; rows must come shuffled."""
        if self.by_time:
            return folds_by_time(train, self.folds).astype(np.int16)
        users = train["user_id"].to_numpy()
        # One user after the other, so that further users change nothing for those who are there.
        drawn = np.random.default_rng(0).random((users.max(initial=0) + 1, 2))
        stranger, own = drawn[:, 0] < self.stranger_share, (drawn[:, 1] * self.folds).astype(np.int16)
        return np.where(stranger[users], own[users], np.arange(len(train)) % self.folds).astype(np.int16)


_WHOLE = _Division()


@dataclass(frozen=True)
class _Task:
    """A feature to fit without one fold; without any of ``_WHOLE``.

    Attributes:
        part: the feature.
        division: of the training rows into folds.
        fold: the one that is left out.
    """

    part: Part
    division: _Division
    fold: int

    @property
    def name(self) -> str:
        """Of the fitted columns; equal for equal settings."""
        return f"{digest(self.part.key.encode())}-{self.fold}-of-{self.division.name}"

    def fit(self, train: pd.DataFrame, sides: Sides, row_fold: np.ndarray | None) -> Columns:
        """Return the columns, float32; ``row_fold``: of each training row, int16 [rows], or None of ``_WHOLE``."""
        if row_fold is None:
            return self.part.fit(train, sides)
        given = row_fold < self.fold if self.part.by_time else None
        return self.part.fit(train, sides, row_fold != self.fold, given)


@dataclass(frozen=True)
class _Material:
    """What all features are fitted on.

    Attributes:
        train: training rows.
        sides: all users and movies.
        folds: of the training rows, by division.
    """

    train: pd.DataFrame
    sides: Sides
    folds: Mapping[str, np.ndarray]

    def fit(self, task: _Task) -> Columns:
        """Fit one feature."""
        return task.fit(self.train, self.sides, self.folds.get(task.division.name))


def _fitted(material: _Material, tasks: Mapping[str, _Task], threads: int) -> list[Columns]:
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        return list(pool.map(material.fit, tasks.values()))


def _fitted_elsewhere(material: _Material, tasks: Sequence[_Task], each: Each) -> list[Columns]:
    reads = {"user_id", "movie_id", *(name for task in tasks for name in task.part.reads)}
    needed = material.train[[name for name in material.train.columns if name in reads]]
    found = dict(each(_in_one_thread, _Material.fit, tasks, replace(material, train=needed)))
    return [found[number] for number in range(len(tasks))]


def _in_one_thread(material: _Material) -> _Material:
    """Limit BLAS in a process that only fits features."""
    threadpool_limits(1, "blas")
    return material


class CollaborativeFolds:
    """Fitted collaborative features: from all training rows, and from those without each fold.

    Args:
        arrays: by name; those of the users' and of the movies' table of each fitted feature, the sizes, and the folds
            of the training rows.

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
        sides: Sides,
        configs: Iterable[CollaborativeConfig],
        threads: int | None = None,
        learn_next_items: NextItemLearner | None = None,
        each: Each | None = None,
    ) -> "CollaborativeFolds":
        """Fit what networks need; equal features with equal settings once.

        Args:
            train: shuffled rows: indices user_id and movie_id, rating, label, and for ``sequence`` timestamp and row.
            sides: all users and movies, with the features that are side information.
            configs: which features, and how many folds, by network.
            threads: how many features are fitted at the same time, which changes no result; default: as many as there
                are processors, and as fit into memory.
            learn_next_items: trains the networks of ``sequence``, see ``ml.training.next_item``; None will do without.
            each: fits features on other machines; None: all is done here.
        """
        wanted = list(configs)
        tasks = {task.name: task for config in wanted for task in _tasks(config, learn_next_items)}
        arrays = {_SIZES: np.array([len(train), *sides.shape], np.int64)}
        divisions = sorted({task.division for task in tasks.values()} - {_WHOLE}, key=lambda division: division.name)
        arrays |= {division.name: division.of(train) for division in divisions}
        material = _Material(train, sides, arrays)
        threads = threads or _threads(sides.shape[1], any(config.ease for config in wanted))
        fitted = _fitted_elsewhere(material, [*tasks.values()], each) if each else _fitted(material, tasks, threads)
        for name, (user, movie) in zip(tasks, fitted, strict=True):
            arrays |= {f"{name}-users": user, f"{name}-movies": movie}
        return cls(arrays)

    def tables(self, config: CollaborativeConfig) -> CollaborativeTables:
        """Return a network's features, fitted on all training rows. Raises DataError for one that is not here."""
        return self._tables([_Task(part, _WHOLE, 0) for part in parts_of(config)])

    def out_of_fold(
        self,
        config: CollaborativeConfig,
        rows: pd.DataFrame,
        sources: np.ndarray | None = None,
        scratch: Path | None = None,
    ) -> np.ndarray:
        """Return features, float32 [rows, features], each from tables fitted without the row's own fold.

        Args:
            config: which features.
            rows: indices user_id and movie_id.
            sources: int [rows], position of the training row whose fold each of ``rows`` shares; default: ``rows`` are
                the training rows.
            scratch: where the features are kept if they are many, see ``ml.data.mapped``.

        Raises:
            DataError: a feature is not here, or ``rows`` are not as many as the training rows.
        """
        if sources is None and len(rows) != self.rows:
            raise DataError(f"found {len(rows)} rows without sources; expected the {self.rows} training rows")
        parts = parts_of(config)
        parts_by_division: dict[_Division, list[int]] = {}
        for number, part in enumerate(parts):
            parts_by_division.setdefault(_division(config, part), []).append(number)
        features = mapped_array((len(rows), len(parts)), np.float32, scratch)
        for division, chosen in parts_by_division.items():
            row_folds = self._row_folds(division)
            for fold in range(division.folds):
                tables = self._tables([_Task(parts[number], division, fold) for number in chosen])
                for start in range(0, len(rows), BLOCK_ROWS):
                    block = slice(start, start + BLOCK_ROWS)
                    own = start + np.flatnonzero(row_folds[block if sources is None else sources[block]] == fold)
                    features[own[:, None], chosen] = tables.of(rows[["user_id", "movie_id"]].iloc[own])
                    release(features)
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

    def _tables(self, tasks: Sequence[_Task]) -> CollaborativeTables:
        columns = [self._columns(task) for task in tasks]
        return CollaborativeTables.of_columns([task.part.name for task in tasks], columns)

    def _row_folds(self, division: _Division) -> np.ndarray:
        """Return the training rows' folds, int16 [rows]."""
        if division.name not in self._arrays:
            raise DataError(f"collaborative features lack the training rows' {division.name}; {_REBUILD}")
        return self._arrays[division.name]

    def _columns(self, task: _Task) -> Columns:
        if f"{task.name}-users" not in self._arrays:
            left_out = f"without fold {task.fold} of {task.division.folds}"
            slot = "on all training rows" if task.division == _WHOLE else left_out
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


def _tasks(config: CollaborativeConfig, learn_next_items: NextItemLearner | None) -> list[_Task]:
    """Return what is to be fitted: the features without each fold, and on all rows."""
    tasks = []
    for part in parts_of(config, learn_next_items):
        division = _division(config, part)
        tasks += [*(_Task(part, division, fold) for fold in range(division.folds)), _Task(part, _WHOLE, 0)]
    return tasks


def _division(config: CollaborativeConfig, part: Part) -> _Division:
    by_time = part.by_time
    return _Division(config.folds, 0.0 if by_time else config.stranger_share, by_time)


def _threads(movies: int, with_ease: bool) -> int:
    fitting = _LARGEST_WEIGHTS // (8 * min(movies, MOST_ITEMS) ** 2) if with_ease else available_processors()
    return max(1, min(available_processors(), fitting))
