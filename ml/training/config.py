"""Settings of the training and of its warm start. Frozen; an unknown key is an error."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class TrainingConfig(BaseModel):
    """How a model is fitted: the defaults are the reference's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=5, ge=1, description="Passes over the training rows.")
    batch_size: int = Field(default=2048, ge=1, description="Rows a step.")
    learning_rate: float = Field(default=1e-4, gt=0, description="Adam's learning rate.")
    schedule: Literal["constant", "cosine"] = Field(
        default="constant", description="constant, or from learning_rate to 0 along half a cosine over all steps."
    )
    reshuffle: bool = Field(
        default=False,
        description="A new order of the rows in every epoch. Without it, Keras on TensorFlow repeats the first one.",
    )
    validation_share: float = Field(
        default=0.1,
        gt=0,
        lt=1,
        description="Share of the training rows, taken from their end, that only measures the loss.",
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Epochs without a lower validation loss after which training ends with the weights of the best "
        "epoch; none: all epochs, weights of the last.",
    )
    seed: int = Field(default=5, ge=0, description="Of the weights, the dropout and the order of the rows.")


class WarmStartConfig(BaseModel):
    """How a model goes on from its champion's weights, so that a night costs what the new rows cost, not all rows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int = Field(default=1, ge=1, description="Passes over the new and the replayed rows.")
    replay: float = Field(
        default=4.0, ge=0, description="Old rows for each new one, drawn by the seed, so that they are not forgotten."
    )
    learning_rate: float | None = Field(
        default=None, gt=0, description="Adam's learning rate; none: that of the training from scratch."
    )
    max_generations: int = Field(
        default=6,
        ge=1,
        description="Warm starts in a row; a champion with so many behind it is followed by a training from scratch.",
    )
