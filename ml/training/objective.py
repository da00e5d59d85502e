"""What a network learns: a target for each of its outputs, and their losses."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pandas as pd
from keras import ops

from ml import schema
from ml.models.config import AutoIntMultitaskConfig

CROSS_ENTROPY = "binary_crossentropy"
LIKE: Mapping[str, Any] = {"loss": CROSS_ENTROPY}  # how to compile a network with one output


@dataclass(frozen=True)
class Objective:
    """Targets and losses.

    Attributes:
        targets: for each output of the network, float32 [rows].
        losses: for each output, as ``keras.Model.compile`` takes them.
        weights: of the losses in their sum.
        group: number of consecutive rows that are always in one batch, in their order.
    """

    targets: list[np.ndarray]
    losses: list[Any]
    weights: list[float]
    group: int = 1

    @property
    def compile_arguments(self) -> Mapping[str, Any]:
        """Arguments of ``keras.Model.compile``."""
        return LIKE if len(self.targets) == 1 else {"loss": self.losses, "loss_weights": self.weights}


def likes(rows: pd.DataFrame) -> Objective:
    """Return the objective of a network with one output, the probability of a like.

    Args:
        rows: with the column label.
    """
    return Objective([rows[schema.LABEL].to_numpy("float32")], [CROSS_ENTROPY], [1.0])


def likes_and_ratings(rows: pd.DataFrame, config: AutoIntMultitaskConfig, scale: float, group: int) -> Objective:
    """Return the objective of a multi-task network: like, rating, and the order of each like and its negatives.

    Args:
        rows: with the columns label and rating.
        config: weights of the losses.
        scale: standard deviation of the ratings, which the squared error is relative to.
        group: rows of a like and its sampled negatives, which follow it and have no rating; 1 without negatives.
    """
    ratings = rows["rating"].to_numpy("float32").copy()
    ratings[np.arange(len(rows)) % group != 0] = np.nan
    like_loss = cross_entropy_with_order(config.pairwise_weight, group) if config.pairwise_weight else CROSS_ENTROPY
    losses = [like_loss, squared_error(scale)]
    return Objective([*likes(rows).targets, ratings], losses, [1.0, config.rating_weight], group)


def squared_error(scale: float) -> Callable[[Any, Any], Any]:
    """Return a loss: each row's ``((prediction - rating) / scale) ** 2``, and 0 for a row whose rating is NaN."""

    def error(ratings: Any, predictions: Any) -> Any:
        known = ops.logical_not(ops.isnan(ratings))
        # The inner choice keeps NaN out of the gradient.
        differences = ops.where(known, predictions - ops.where(known, ratings, 0.0), 0.0)
        return ops.mean(ops.square(differences / scale), axis=-1)

    return error


def cross_entropy_with_order(weight: float, group: int) -> Callable[[Any, Any], Any]:
    """Return a loss: the binary cross-entropy plus ``weight * mean(-log sigmoid(like - negative))`` of the log-odds.

    The second term is BPR-Opt of Rendle et al., "BPR", UAI 2009, over all pairs of a like and one of its negatives.

    Args:
        weight: of the second term.
        group: rows of a like and its negatives, the like first; batches hold whole groups.
    """

    def loss(labels: Any, probabilities: Any) -> Any:
        clipped = ops.clip(probabilities, keras.config.epsilon(), 1 - keras.config.epsilon())
        log_odds = ops.reshape(ops.log(clipped) - ops.log1p(-clipped), (-1, group))
        order = ops.mean(ops.softplus(log_odds[:, 1:] - log_odds[:, :1]))
        return keras.losses.binary_crossentropy(labels, probabilities) + weight * order

    return loss
