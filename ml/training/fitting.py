"""Follow a recipe: from training rows to a network that can be asked."""

from collections.abc import Callable
from pathlib import Path

import keras

from ml.models.autoint import build_model, with_signals
from ml.training.backup import Backup
from ml.training.data import PAIR, TrainingData
from ml.training.recipes import Recipe
from ml.training.reports import BatchReport, EpochReport
from ml.training.trainer import train


class Fitting:
    """One training by a recipe, on data that the same recipe made.

    Args:
        recipe: what to do.
        data: what to do it on.
    """

    def __init__(self, recipe: Recipe, data: TrainingData) -> None:
        self._recipe, self._data = recipe, data
        self.network = build_model(recipe.architecture, data.inputs, recipe.model, recipe.training.seed)

    def run(
        self,
        on_epoch: Callable[[EpochReport], None],
        on_batch: Callable[[BatchReport], None] = lambda report: None,
        backup: Backup | None = None,
    ) -> list[EpochReport]:
        """Train; see ``ml.training.trainer.train``."""
        data = self._data
        return train(self.network, data.rows, self._recipe.training, on_epoch, on_batch, backup, data.numbers)

    def backup(self, folder: Path) -> Backup:
        """Where, below ``folder``, this training's state is kept between its epochs."""
        return Backup.of(folder, self.network, self._data.rows, self._recipe, self._data.numbers)

    @property
    def serving_network(self) -> keras.Model:
        """The network as it is now, for codes int32 [rows, fields] and the recipe's number columns alone."""
        pairs = self._data.pairs
        return with_signals(self.network, pairs, PAIR) if pairs else self.network
