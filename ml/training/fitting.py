"""Follow a recipe: from training rows to a network that takes codes alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from ml import schema
from ml.features.signals import PairSignals, SignalsConfig, fit_signals, out_of_fold_signals
from ml.models.autoint import Inputs, build_model, with_signals
from ml.training.backup import Backup
from ml.training.recipes import Recipe
from ml.training.reports import BatchReport, EpochReport
from ml.training.trainer import fitted_rows, train

_PAIR = (schema.FIELD_NAMES.index("user_id"), schema.FIELD_NAMES.index("movie_id"))


@dataclass(frozen=True)
class _Signals:
    """Of the training rows [rows, signals], out of fold, and of all pairs."""

    rows: np.ndarray
    pairs: PairSignals


class Fitting:
    """One training by a recipe.

    Args:
        recipe: what to do.
        train_interactions: encoded rows in shuffled order.
        field_dims: number of codes of each field.
    """

    def __init__(self, recipe: Recipe, train_interactions: pd.DataFrame, field_dims: Sequence[int]) -> None:
        self._recipe, self._rows = recipe, train_interactions
        self._signals = _signals(train_interactions, field_dims, recipe.signals) if recipe.signals else None
        self.network = build_model(recipe.architecture, self._inputs(field_dims), recipe.model, recipe.training.seed)

    def run(
        self,
        on_epoch: Callable[[EpochReport], None],
        on_batch: Callable[[BatchReport], None],
        backup: Backup | None = None,
    ) -> list[EpochReport]:
        """Train; see ``ml.training.trainer.train``."""
        signals = self._signals.rows if self._signals else None
        return train(self.network, self._rows, self._recipe.training, on_epoch, on_batch, backup, signals)

    def backup(self, folder: Path) -> Backup:
        """Where, below ``folder``, this training's state is kept between its epochs."""
        return Backup.of(folder, self.network, self._rows, self._recipe)

    @property
    def serving_network(self) -> keras.Model:
        """The network as it is now, for codes int32 [rows, fields] alone."""
        return with_signals(self.network, self._signals.pairs, _PAIR) if self._signals else self.network

    def _inputs(self, field_dims: Sequence[int]) -> Inputs:
        if self._signals is None:
            return Inputs(field_dims, self._recipe.positions)
        fitted = self._signals.rows[: fitted_rows(len(self._rows), self._recipe.training)].astype(np.float64)
        scales = np.maximum(fitted.std(axis=0), 1e-6)  # a signal that never changes
        return Inputs(field_dims, self._recipe.positions, fitted.mean(axis=0).tolist(), scales.tolist())


def _signals(train: pd.DataFrame, field_dims: Sequence[int], config: SignalsConfig) -> _Signals:
    users, movies = (field_dims[position] for position in _PAIR)
    return _Signals(
        out_of_fold_signals(train, users, movies, config),
        fit_signals(train, users, movies, config),
    )
