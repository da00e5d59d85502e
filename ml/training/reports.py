"""What a training reports while it goes on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochReport:
    """One finished epoch.

    Attributes:
        epoch: its number, from 1.
        epochs: how many there will be at most.
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


@dataclass(frozen=True)
class BatchReport:
    """Where an epoch is.

    Attributes:
        epoch: its number, from 1.
        epochs: how many there will be at most.
        batch: number of batches done in it.
        batches: how many it has.
        loss: mean over the epoch's batches so far.
        rows_per_second: of the epoch so far.
        seconds_left: until the end of the last epoch that there may be, at this rate, validations left out.
    """

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    rows_per_second: float
    seconds_left: float
