"""Settings of a training and of its warm start. Frozen; an unknown key is an error."""

from typing import Literal

from pydantic import BaseModel, Field


class TrainingConfig(BaseModel, frozen=True, extra="forbid"):
    """How a network is trained; the defaults are the reference's."""

    epochs: int = Field(default=5, ge=1, description="Passes over the training rows.")
    batch_size: int = Field(default=2048, ge=1, description="Rows per step.")
    learning_rate: float = Field(default=1e-4, gt=0, description="Adam's learning rate.")
    schedule: Literal["constant", "cosine"] = Field(
        default="constant",
        description="constant, or from learning_rate to 0 along half a cosine over all steps.",
    )
    reshuffle: bool = Field(
        default=False,
        description="Shuffle the rows for every epoch. Otherwise, Keras on TensorFlow repeats the first order.",
    )
    validation_share: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="Share of the training rows, at their end, that only measures the loss.",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Epochs without a lower validation loss after which training stops with the weights of the best "
        "epoch; none: all epochs, and the weights of the last.",
    )
    seed: int = Field(default=5, ge=0, description="Of the first weights, dropout and the order of the rows.")


class WarmStartConfig(BaseModel, frozen=True, extra="forbid"):
    """How a model continues from its champion's weights, so that a nightly run costs what its new rows cost."""

    epochs: int = Field(default=1, ge=1, description="Passes over the new and the replayed rows.")
    replay: float = Field(
        default=4.0,
        ge=0,
        description="Old rows per new row, drawn with the seed, so that they are not forgotten.",
    )
    learning_rate: float | None = Field(
        default=None, gt=0, description="Adam's learning rate; none: the same as from scratch."
    )
    max_generations: int = Field(
        default=6,
        ge=1,
        description="Most warm starts in a row; after them, the next training is from scratch.",
    )
