"""What a training reports while it runs."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochReport:
    """A finished epoch.

    Attributes:
        epoch: its number, from 1.
        epochs: most epochs that the training takes.
        train_loss: mean loss over the epoch's training rows while they were learned (with dropout and penalties).
        val_loss: loss on the validation rows after the epoch (without dropout, with penalties).
        seconds: wall-clock time of the epoch, including validation.
        rows_per_second: training rows divided by ``seconds``.
    """

    epoch: int
    epochs: int
    train_loss: float
    val_loss: float
    seconds: float
    rows_per_second: float


@dataclass(frozen=True)
class BatchReport:
    """Progress within an epoch.

    Attributes:
        epoch: its number, from 1.
        epochs: most epochs that the training takes.
        batch: number of finished batches in this epoch.
        batches: batches per epoch.
        loss: mean over the epoch's batches so far.
        rows_per_second: of the epoch so far.
        seconds_left: until the end of the last epoch at this rate, without validation.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    rows_per_second: float
    seconds_left: float
