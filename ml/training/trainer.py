"""Train a network on encoded interactions."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from ml import schema
from ml.training.adam import CompiledAdam, hand_over
from ml.training.batches import Arrays, EpochOrder, training_batches, validation_batches
from ml.training.checkpoint import Checkpoint
from ml.training.compiled_network import CompiledTraining, obstacle
from ml.training.config import TrainingConfig
from ml.training.early_stopping import EarlyStopping, is_stopped
from ml.training.objective import CROSS_ENTROPY, LIKE, Objective, likes
from ml.training.parallel import ParallelCompiled, ParallelNetwork, Workers
from ml.training.reports import BatchReport, EpochReport

SECONDS_BETWEEN_BATCH_REPORTS = 10.0
# Keras's own work between two steps, in Python, costs as much as a twentieth of a compiled step.
_STEPS_AT_ONCE = 8
_log = logging.getLogger(__name__)


def train(  # noqa: PLR0913 - the last ones are given by name
    model: keras.Model,
    train_interactions: pd.DataFrame,
    config: TrainingConfig,
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
    on_batch: Callable[[BatchReport], None] = lambda report: None,
    checkpoint: Checkpoint | None = None,
    *,
    numbers: np.ndarray | None = None,
    compiled: bool = True,
    objective: Objective | None = None,
    workers: Workers | None = None,
) -> list[EpochReport]:
    """Train a network with Adam; the last rows are held out for validation.

    With patience, training may stop early, and the network ends with the weights of the epoch with the lowest
    validation loss.

    The network is left as Keras's ``fit`` would leave it, whether its steps are compiled or not; see ``learner_of``.

    Args:
        model: an uncompiled network that takes indices int32 [rows, features], and numeric features if there are any,
            and returns probabilities [rows, 1], or what ``objective`` has targets for.
        train_interactions: encoded rows in shuffled order (see ``ml.features.splits``): the features' indices in the
            network's order, then label.
        config: the settings. The seed is also Keras's global seed, which orders the rows.
        on_epoch: called after every epoch, and for the epochs that a checkpoint has finished.
        on_batch: called within an epoch, every ``SECONDS_BETWEEN_BATCH_REPORTS``.
        checkpoint: where an earlier, interrupted call for the same training has saved its state, and this call saves
            its own. The final weights are those of an uninterrupted training if Keras orders the rows by the seed
            alone, which it does on TensorFlow.
        numbers: numeric features, float32 [rows, numeric features], if the network takes them.
        compiled: whether to compile the steps where that is supported; for comparisons.
        objective: what to learn; default: the labels, by binary cross-entropy.
        workers: this process among those that train the network together, on TensorFlow; every one calls this with the
            same arguments. None: it trains alone.

    Returns:
        One report for every epoch; its losses are the weighted sums of the objective's.
        ``ml.training.early_stopping.best_epoch`` says which of them the weights belong to.
    """
    keras.utils.set_random_seed(config.seed)
    inputs = [_row_by_row(train_interactions.loc[:, : schema.LABEL].iloc[:, :-1].to_numpy("int32"))]  # [rows, features]
    if numbers is not None:
        inputs.append(numbers)
    objective = objective or likes(train_interactions)
    data, group = (inputs, objective.targets), objective.group
    fitted = fitted_rows(len(train_interactions), config) // group * group
    learner = learner_of(model, _learning_rate(config, fitted), compiled, objective.compile_arguments, workers)
    done, best_weights = checkpoint.restore(learner) if checkpoint else ([], [])
    stopping = EarlyStopping(config.patience, done, best_weights) if config.patience else None
    for report in done:
        on_epoch(report)

    def epoch_done(report: EpochReport) -> None:
        done.append(report)
        if checkpoint:
            checkpoint.save(learner, done, (stopping and stopping.best_weights) or ())
        on_epoch(report)

    reporter = _Reporter(config, fitted, epoch_done, on_batch)
    # Without an own order, Keras would take groups apart.
    batch_size = max(config.batch_size // group, 1) * group
    order = EpochOrder(fitted, config.seed, group, batch_size) if config.reshuffle or group > 1 else None
    part = workers.part(batch_size, group) if workers else None
    # An early stop comes before the report, so that a checkpoint has the best weights.
    callbacks = [each for each in (order, stopping, reporter) if each]
    with threadpool_limits(1, "blas"):  # the matrices of a compiled step are too small for several threads
        learner.fit(
            **training_batches(*_rows(data, slice(fitted)), batch_size, order, part),
            **validation_batches(*_rows(data, slice(fitted, None)), batch_size, part),
            initial_epoch=len(done),
            epochs=len(done) if is_stopped(done, config) else config.epochs,
            callbacks=callbacks,
            verbose=0,
        )
    if learner is not model:
        hand_over(learner.optimizer, model, CROSS_ENTROPY)
    return done


def _row_by_row(values: np.ndarray) -> np.ndarray:
    """Return an array whose rows are adjacent in memory, so that they are gathered fast; a mapped table's are."""
    return values if values.strides[-1] == values.itemsize else np.ascontiguousarray(values)


def _rows(data: tuple[Arrays, Arrays], chosen: slice) -> tuple[Arrays, Arrays]:
    inputs, targets = ([each[chosen] for each in arrays] for arrays in data)
    return inputs, targets


def learner_of(
    model: keras.Model,
    learning_rate: Any,
    compiled: bool = True,
    losses: Mapping[str, Any] | None = None,
    workers: Workers | None = None,
) -> keras.Model:
    """Return a model to fit, compiled with Adam, which has the weights of ``model``.

    It is a ``CompiledTraining`` where ``obstacle`` finds nothing against it, else ``model`` itself; the log says which.
    The losses are the same up to float32's rounding.

    Args:
        model: a network.
        learning_rate: a number or a schedule.
        compiled: False for ``model`` itself in any case.
        losses: arguments of ``keras.Model.compile``; default: those of likes.
        workers: this process among those that train together; None: it trains alone.
    """
    reason = obstacle(model) if compiled else "that was asked for"
    if reason:
        _log.info("%s: trained by Keras's own steps, since %s", model.name, reason)
        learner = ParallelNetwork(model, workers) if workers else model
        optimizer = keras.optimizers.Adam(learning_rate)
    else:
        _log.info("%s: trained by compiled steps", model.name)
        learner = ParallelCompiled(model, workers) if workers else CompiledTraining(model)
        optimizer = CompiledAdam(learning_rate)
    steps = 1 if reason else _STEPS_AT_ONCE
    jit = {"jit_compile": False} if workers else {}  # XLA has no collective operations between processes
    learner.compile(optimizer=optimizer, **(losses or LIKE), steps_per_execution=steps, **jit)
    optimizer.build(learner.trainable_variables)  # else TensorFlow traces the first step twice, which takes seconds
    return learner


def fitted_rows(rows: int, config: TrainingConfig) -> int:
    """Return how many of the training rows are learned from; the rest, at their end, only measures the loss."""
    return int(rows * (1 - config.validation_share))


def _learning_rate(config: TrainingConfig, rows: int) -> Any:
    if config.schedule == "constant":
        return config.learning_rate
    steps = config.epochs * -(-rows // config.batch_size)
    return keras.optimizers.schedules.CosineDecay(config.learning_rate, steps)


class _Reporter(keras.callbacks.Callback):
    def __init__(
        self,
        config: TrainingConfig,
        rows: int,
        on_epoch: Callable[[EpochReport], None],
        on_batch: Callable[[BatchReport], None],
    ) -> None:
        super().__init__()
        self._config, self._rows = config, rows
        self._on_epoch, self._on_batch = on_epoch, on_batch
        self._batches = -(-rows // config.batch_size)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._epoch = epoch + 1
        self._started = self._reported = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any]) -> None:
        now = time.perf_counter()
        if now - self._reported < SECONDS_BETWEEN_BATCH_REPORTS:
            return
        self._reported = now
        batch = min(batch, self._batches - 1)  # Keras counts past the end of an epoch if several steps are one call
        rows = min((batch + 1) * self._config.batch_size, self._rows)
        rate = rows / (now - self._started)
        left = self._rows * (self._config.epochs - self._epoch + 1) - rows
        place = (self._epoch, self._config.epochs, batch + 1, self._batches)
        self._on_batch(BatchReport(*place, float(logs["loss"]), rate, left / rate))

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        seconds = time.perf_counter() - self._started
        losses = float(logs["loss"]), float(logs["val_loss"])
        self._on_epoch(EpochReport(epoch + 1, self._config.epochs, *losses, seconds, self._rows / seconds))
