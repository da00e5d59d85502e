"""Train a network on users' histories to predict the next item."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import keras
import numpy as np

from ml.errors import DataError
from ml.features.histories import Histories
from ml.models.sequence import NextItemModel
from ml.training.checkpoint import Checkpoint
from ml.training.config import TrainingConfig
from ml.training.early_stopping import best_epoch, is_stopped
from ml.training.reports import BatchReport, EpochReport
from ml.training.trainer import SECONDS_BETWEEN_BATCH_REPORTS

_BUCKET = 8  # histories whose lengths differ by no more than about an eighth share a batch
_STATES_AT_ONCE = 64  # users
_FEWEST = 3  # items of a user of whom some are held out


@dataclass(frozen=True)
class Batch:
    """Histories that are learned from, or measured, in one step.

    Attributes:
        tokens: int32 [n, T], padded on the left; see ``ml.models.sequence``.
        next_items: int32 [n, S], the item after each of the last S tokens; no earlier one counts.
        weights: float32 [n, S], 0 where there is none that counts.
    """

    tokens: np.ndarray
    next_items: np.ndarray
    weights: np.ndarray

    @property
    def items(self) -> int:
        """How many next items count."""
        return int(self.weights.sum())


def held_out_counts(histories: Histories, share: float) -> np.ndarray:
    """Return how many of each user's last items only measure the loss, int64 [users].

    They are this share of the user's items, at least one; none of a user with fewer than three.
    """
    lengths = histories.lengths
    return np.where(lengths >= _FEWEST, np.maximum((lengths * share).astype(np.int64), 1), 0)


def batch_of(histories: Histories, users: np.ndarray, firsts: np.ndarray, lasts: np.ndarray, length: int) -> Batch:
    """Make a batch of users' next items from place ``firsts`` up to, without, ``lasts``; int [n] each.

    Args:
        histories: of all users.
        users: indices, int [n].
        firsts: places in the users' histories, from 1, of the first next item that counts.
        lasts: place after the last one.
        length: most tokens of a history; earlier ones are left out.
    """
    widest = int(min(length, (lasts - 1).max()))
    # Row i, column t is the next item at this place in the user's history; the last column at the last place.
    places = lasts[:, None] - widest + np.arange(widest)
    known = places >= 1
    at = histories.starts[users][:, None] + np.maximum(places, 1)
    tokens = np.where(known, histories.items[at - 1] + 1, 0).astype(np.int32)
    next_items = np.where(known, histories.items[at], 0).astype(np.int32)
    counted = known & (places >= firsts[:, None])
    last = slice(int(counted.any(axis=0).argmax()), None)
    return Batch(tokens, next_items[:, last], counted[:, last].astype(np.float32))


def states_of(model: NextItemModel, histories: Histories) -> np.ndarray:
    """Return the network's state after each user's last item, float32 [users, width].

    A user without items has the mean of all others' states, hence scores close to the items' popularity.

    Args:
        model: a trained network.
        histories: of all users.
    """
    lengths, length = histories.lengths, model.embedding.length
    known = np.argsort(lengths, kind="stable")[np.count_nonzero(lengths == 0) :]  # similar lengths: little padding
    states = np.zeros((len(lengths), model.embedding.width), np.float32)
    for start in range(0, len(known), _STATES_AT_ONCE):
        users = known[start : start + _STATES_AT_ONCE]
        widest = min(length, int(lengths[users[-1]]))
        places = lengths[users, None] - widest + np.arange(widest)
        at = histories.starts[users, None] + np.maximum(places, 0)
        tokens = np.where(places >= 0, histories.items[at] + 1, 0).astype(np.int32)
        states[users] = keras.ops.convert_to_numpy(model.predict_on_batch(tokens))[:, -1]
    states[lengths == 0] = states[known].mean(axis=0)
    return states


class _Batches:
    """The batches of a training: histories of similar lengths share one, so that little of it is padding."""

    def __init__(self, histories: Histories, config: TrainingConfig, length: int) -> None:
        self._histories, self._config, self._length = histories, config, length
        self._held_out = held_out_counts(histories, config.validation_share)

    def training(self, epoch: int) -> list[Batch]:
        """Return those of an epoch, in its order."""
        rng = np.random.default_rng([self._config.seed, epoch if self._config.reshuffle else 0])
        lasts = self._histories.lengths - self._held_out
        users = rng.permutation(np.flatnonzero(lasts >= 2))
        tokens = np.minimum(lasts[users] - 1, self._length)
        users = users[np.argsort(tokens * (1 + rng.random(len(users)) / _BUCKET), kind="stable")]
        batches = [self._batch(each, np.ones(len(each), np.int64), lasts[each]) for each in self._cut(users, lasts)]
        return [batches[number] for number in rng.permutation(len(batches))]

    def validation(self) -> list[Batch]:
        """Return those that measure the loss."""
        lasts = self._histories.lengths
        users = np.flatnonzero(self._held_out)
        users = users[np.argsort(lasts[users], kind="stable")]
        return [self._batch(each, (lasts - self._held_out)[each], lasts[each]) for each in self._cut(users, lasts)]

    def _batch(self, users: np.ndarray, firsts: np.ndarray, lasts: np.ndarray) -> Batch:
        return batch_of(self._histories, users, firsts, lasts, self._length)

    def _cut(self, users: np.ndarray, lasts: np.ndarray) -> Iterator[np.ndarray]:
        """Cut users into batches of at most ``batch_size`` tokens with padding, or of one user."""
        start, widest = 0, 0
        for stop, user in enumerate(users):
            wider = max(widest, min(int(lasts[user]) - 1, self._length))
            if stop > start and wider * (stop + 1 - start) > self._config.batch_size:
                yield users[start:stop]
                start, wider = stop, min(int(lasts[user]) - 1, self._length)
            widest = wider
        if len(users):
            yield users[start:]


def train_on_histories(
    model: NextItemModel,
    histories: Histories,
    config: TrainingConfig,
    on_epoch: Callable[[EpochReport], None] = lambda report: None,
    on_batch: Callable[[BatchReport], None] = lambda report: None,
    checkpoint: Checkpoint | None = None,
) -> list[EpochReport]:
    """Train a network with Adam to predict each next item; each user's last items are held out for validation.

    A row is a next item with the items before it. ``batch_size`` counts the rows of a step, with padding.

    Args:
        model: an uncompiled network.
        histories: of all users.
        config: the settings; ``validation_share`` is that of each user's items, see ``held_out_counts``.
        on_epoch: called after every epoch, and for the epochs that a checkpoint has finished.
        on_batch: called within an epoch, every ``SECONDS_BETWEEN_BATCH_REPORTS``, see ``ml.training.trainer``.
        checkpoint: where an earlier, interrupted call has saved its state, and this call saves its own.

    Returns:
        One report for every epoch, as from ``ml.training.trainer.train``.

    Raises:
        DataError: no user has items to learn from and to hold out.
    """
    keras.utils.set_random_seed(config.seed)
    batches = _Batches(histories, config, model.embedding.length)
    validation, steps = batches.validation(), len(batches.training(0))
    if not validation or not steps:
        raise DataError(f"no user has {_FEWEST} ratings or more; expected some, to learn which movie comes next")
    optimizer = keras.optimizers.Adam(_learning_rate(config, steps))
    model.compile(optimizer=optimizer, jit_compile=False)  # compiling takes longer than it saves
    optimizer.build(model.trainable_variables)
    _trace(model)
    done, best_weights = checkpoint.restore(model) if checkpoint else ([], [])
    for report in done:
        on_epoch(report)
    while len(done) < config.epochs and not is_stopped(done, config):
        done.append(_epoch(model, batches.training(len(done)), validation, (len(done) + 1, config.epochs), on_batch))
        if config.patience and best_epoch(done, config) == len(done):
            best_weights = model.get_weights()
        if checkpoint:
            checkpoint.save(model, done, best_weights)
        on_epoch(done[-1])
    if config.patience:
        model.set_weights(best_weights)
    return done


def _trace(model: NextItemModel) -> None:
    """Have TensorFlow trace the steps for batches of any shape; the model's state stays the same.

    It traces a step for the first shape, and for all shapes when a second one comes, with slightly different rounding.
    So a training that resumes with another batch would end with other weights.
    """
    variables = [*model.variables, *model.optimizer.variables]
    values = [keras.ops.convert_to_numpy(variable).copy() for variable in variables]
    for shape in ((1, 2), (2, 3)):
        batch = Batch(*(np.ones(shape, kind) for kind in (np.int32, np.int32, np.float32)))
        for step in (model.train_on_batch, model.test_on_batch):
            _loss(step, model, batch)
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _epoch(
    model: NextItemModel,
    batches: list[Batch],
    validation: list[Batch],
    place: tuple[int, int],
    on_batch: Callable[[BatchReport], None],
) -> EpochReport:
    """Learn from the batches, then measure; ``place`` is the number of the epoch, from 1, and of all epochs."""
    started = reported = time.perf_counter()
    all_rows = sum(batch.items for batch in batches)
    total, rows = 0.0, 0
    for number, batch in enumerate(batches, start=1):
        total += _loss(model.train_on_batch, model, batch) * batch.items
        rows += batch.items
        if (now := time.perf_counter()) - reported >= SECONDS_BETWEEN_BATCH_REPORTS:
            reported, rate = now, rows / (now - started)
            left = (all_rows * (place[1] - place[0] + 1) - rows) / rate
            on_batch(BatchReport(*place, number, len(batches), total / rows, rate, left))
    held_out = sum(batch.items for batch in validation)
    val_loss = sum(_loss(model.test_on_batch, model, batch) * batch.items for batch in validation) / held_out
    seconds = time.perf_counter() - started
    return EpochReport(*place, total / rows, val_loss, seconds, rows / seconds)


def _loss(step: Callable[..., float], model: NextItemModel, batch: Batch) -> float:
    model.reset_metrics()  # else Keras returns the mean of all batches so far
    return float(step(batch.tokens, batch.next_items, sample_weight=batch.weights))


def _learning_rate(config: TrainingConfig, steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    if config.schedule == "constant":
        return config.learning_rate
    return keras.optimizers.schedules.CosineDecay(config.learning_rate, config.epochs * steps)
