"""End a training when its validation loss falls no more, with the weights of the epoch where it was lowest."""

import math
from collections.abc import Sequence

import keras
import numpy as np

from ml.training.config import TrainingConfig
from ml.training.reports import EpochReport


def best_epoch(reports: Sequence[EpochReport], config: TrainingConfig) -> int:
    """The epoch, from 1, whose weights a training of these epochs ends with.

    With patience, the first of the lowest validation loss (a loss that is no number is never the lower one); without,
    the last.
    """
    if config.patience is None:
        return reports[-1].epoch
    return min(reports, key=lambda report: math.inf if math.isnan(report.val_loss) else report.val_loss).epoch


class EarlyStopping:
    """Keeps a training's best weights and says when to stop; does nothing without patience.

    Args:
        config: patience.
        weights: of the best epoch, where some epochs are done already.

    Attributes:
        weights: as Keras lists them, after the best epoch so far; empty before the first and without patience.
    """

    def __init__(self, config: TrainingConfig, weights: Sequence[np.ndarray] = ()) -> None:
        self._config = config
        self.weights = list(weights)

    def observe(self, model: keras.Model, reports: Sequence[EpochReport]) -> None:
        """Keep the weights if the last of these epochs, which the model has just done, is the best."""
        if self._config.patience is not None and best_epoch(reports, self._config) == reports[-1].epoch:
            self.weights = [np.array(weight) for weight in model.get_weights()]  # copies, whatever the backend gives

    def is_due(self, reports: Sequence[EpochReport]) -> bool:
        """Whether ``patience`` epochs have brought no lower validation loss."""
        if self._config.patience is None or not reports:
            return False
        return reports[-1].epoch - best_epoch(reports, self._config) >= self._config.patience

    def finish(self, model: keras.Model) -> None:
        """Give the model the best weights."""
        if self.weights:
            model.set_weights(self.weights)
