"""Stop a training whose validation loss no longer falls, and keep the weights of its best epoch."""

import math
from collections.abc import Mapping, Sequence

import keras
import numpy as np

from ml.training.config import TrainingConfig
from ml.training.reports import EpochReport


def best_epoch(reports: Sequence[EpochReport], config: TrainingConfig) -> int:
    """Return the epoch, from 1, whose weights a training of these epochs ends with.

    With patience, it is the first one with the lowest validation loss, where NaN is never lower; without, the last.
    """
    if config.patience is None:
        return reports[-1].epoch
    return min(reports, key=lambda report: _comparable(report.val_loss)).epoch


def is_stopped(reports: Sequence[EpochReport], config: TrainingConfig) -> bool:
    """Return whether ``patience`` epochs in a row have not lowered the validation loss."""
    if config.patience is None or not reports:
        return False
    return reports[-1].epoch - best_epoch(reports, config) >= config.patience


class EarlyStopping(keras.callbacks.EarlyStopping):
    """Keras's early stopping that resumes from a checkpoint; a loss of NaN never counts as lower.

    Args:
        patience: epochs without a lower validation loss after which training stops.
        done: epochs that the checkpoint has finished.
        best_weights: weights of the best of them.
    """

    def __init__(self, patience: int, done: Sequence[EpochReport], best_weights: Sequence[np.ndarray]) -> None:
        super().__init__(monitor="val_loss", mode="min", patience=patience, restore_best_weights=True)
        self._done, self._saved_weights = tuple(done), list(best_weights)

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Repeat what the finished epochs have reported. Called by Keras."""
        super().on_train_begin(logs)
        for report in self._done:
            self.on_epoch_end(report.epoch - 1, {"val_loss": report.val_loss})
        self.best_weights = self._saved_weights or None

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float]) -> None:
        """Keep the weights of a better epoch, or stop. Called by Keras."""
        super().on_epoch_end(epoch, {"val_loss": _comparable(logs["val_loss"])})


def _comparable(loss: float) -> float:
    return math.inf if math.isnan(loss) else loss
