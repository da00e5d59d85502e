"""Fit a Keras model on encoded interactions."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import keras
import pandas as pd

from ml import schema
from ml.training.config import TrainingConfig


@dataclass(frozen=True)
class EpochReport:
    """One finished epoch.

    Attributes:
        epoch: its number, from 1.
        epochs: how many there will be.
        train_loss: mean loss over the epoch's training rows while they were being learned (dropout on, penalties in).
        val_loss: loss on the validation rows after the epoch (dropout off, penalties in).
        seconds: wall-clock time of the epoch, validation included.
        rows_per_second: training rows by ``seconds``.
    """

    epoch: int
    epochs: int
    train_loss: float
    val_loss: float
    seconds: float
    rows_per_second: float


def train(
    model: keras.Model,
    train_interactions: pd.DataFrame,
    config: TrainingConfig,
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
) -> list[EpochReport]:
    """Fit with Adam and binary cross-entropy; the last rows are held out for validation.

    Args:
        model: an uncompiled model that takes int32 codes [rows, fields] and gives probabilities [rows, 1].
        train_interactions: encoded rows in shuffled order (see ``ml.features.splits``).
        config: the settings. The seed also sets Keras's global one, which orders the rows.
        on_epoch: called after every epoch.

    Returns:
        One report an epoch.
    """
    keras.utils.set_random_seed(config.seed)
    codes = train_interactions[list(schema.FIELD_NAMES)].to_numpy("int32")  # [rows, fields]
    labels = train_interactions[schema.LABEL].to_numpy("float32")  # [rows]
    fitted = int(len(codes) * (1 - config.validation_share))
    reporter = _Reporter(config.epochs, fitted, on_epoch)
    model.compile(optimizer=keras.optimizers.Adam(config.learning_rate), loss="binary_crossentropy")
    model.fit(
        codes[:fitted],
        labels[:fitted],
        validation_data=(codes[fitted:], labels[fitted:]),
        epochs=config.epochs,
        batch_size=config.batch_size,
        callbacks=[reporter],
        verbose=0,
    )
    return reporter.reports


class _Reporter(keras.callbacks.Callback):
    def __init__(self, epochs: int, rows: int, on_epoch: Callable[[EpochReport], None]) -> None:
        super().__init__()
        self.reports: list[EpochReport] = []
        self._epochs, self._rows, self._on_epoch = epochs, rows, on_epoch

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self._started = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        seconds = time.perf_counter() - self._started
        report = EpochReport(
            epoch=epoch + 1,
            epochs=self._epochs,
            train_loss=float(logs["loss"]),
            val_loss=float(logs["val_loss"]),
            seconds=seconds,
            rows_per_second=self._rows / seconds,
        )
        self.reports.append(report)
        self._on_epoch(report)
