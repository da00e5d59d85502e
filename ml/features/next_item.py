"""The score of a user's next item, by a network of histories, as an inner product of user and item.

The network is trained elsewhere: this module knows its settings and what becomes of its states and vectors.
"""

from collections.abc import Callable
from typing import Self

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field, model_validator
from scipy.special import logsumexp

from ml.features.histories import Histories

_USERS_AT_ONCE = 512


class HistoryNetworkConfig(BaseModel, frozen=True, extra="forbid"):
    """Settings of SASRec's network. Frozen; an unknown key is an error."""

    embed_dim: int = Field(default=64, ge=1, description="SASRec: width of an item's vector.")
    num_layers: int = Field(default=2, ge=1, description="SASRec: number of self-attention blocks.")
    num_heads: int = Field(default=1, ge=1, description="SASRec: attention heads per block; a divisor of embed_dim.")
    length: int = Field(default=200, ge=1, description="SASRec: how many of a user's latest ratings it looks at.")
    dropout: float = Field(
        default=0.2, ge=0, lt=1, description="SASRec: dropout on embeddings, attention weights and layers."
    )
    negatives: int = Field(
        default=0, ge=0, description="SASRec: items sampled per step for the training loss's softmax; 0: all items."
    )

    @model_validator(mode="after")
    def _heads_divide_the_width(self) -> Self:
        if self.embed_dim % self.num_heads:
            raise ValueError(f"num_heads must divide embed_dim, {self.embed_dim}; got {self.num_heads}")
        return self


class NextItemConfig(HistoryNetworkConfig, frozen=True, extra="forbid"):
    """Settings of a SASRec and its training. Frozen; an unknown key is an error."""

    negatives: int = Field(default=256, ge=0, description="Items sampled per step for the loss's softmax; 0: all.")
    epochs: int = Field(default=8, ge=1, description="Passes over the rows.")
    batch_size: int = Field(default=1600, ge=1, description="Ratings per step, with padding, in whole histories.")
    learning_rate: float = Field(default=2e-3, gt=0, description="Adam's first learning rate, which falls to 0.")
    seed: int = Field(default=1, ge=0, description="Of the first weights, dropout, samples and the order of histories.")


# Returns states, float [users, width], and the items' vectors, float [items, width]. Given are the histories to learn
# from, the histories after whose last items the states are, the number of items and the settings.
NextItemLearner = Callable[[Histories, Histories, int, NextItemConfig], tuple[np.ndarray, np.ndarray]]


def folds_by_time(rows: pd.DataFrame, folds: int) -> np.ndarray:
    """Return each row's fold, int64 [rows]: a user's rows in the order of time, cut into parts of about equal size.

    Args:
        rows: user_id, timestamp, row.
        folds: number of parts.
    """
    order = np.lexsort([rows[name].to_numpy() for name in ("row", "timestamp", "user_id")])
    users = rows["user_id"].to_numpy()[order]
    counts = np.bincount(users)
    places = np.arange(len(rows)) - (np.cumsum(counts) - counts)[users]
    found = np.empty(len(rows), np.int64)
    found[order] = places * folds // counts[users]
    return found


def next_item_columns(states: np.ndarray, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return columns whose products are ``log(items * softmax(states @ vectors.T))``.

    That is the log-odds that an item is the user's next one, rather than one that is drawn from all with equal
    probability. So scores of different users can be compared.

    Args:
        states: float [users, width].
        vectors: float [items, width].

    Returns:
        float64 [users, width + 1] and [items, width + 1].
    """
    users, items = states.astype(np.float64), vectors.astype(np.float64)
    shifts = np.empty(len(users))
    for start in range(0, len(users), _USERS_AT_ONCE):
        block = slice(start, start + _USERS_AT_ONCE)
        shifts[block] = np.log(len(items)) - logsumexp(users[block] @ items.T, axis=1)
    return np.column_stack([users, shifts]), np.column_stack([items, np.ones(len(items))])


def next_item_score(
    train: pd.DataFrame, shape: tuple[int, int], config: NextItemConfig, learn: NextItemLearner | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns of the score, learned from rows in the order of time.

    Args:
        train: indices user_id and movie_id, timestamp, row; and ``given``, whether a row is in the history after which
            the next item is scored. The others are only learned from.
        shape: numbers of users and of movies.
        config: the settings.
        learn: trains the network.

    Raises:
        ValueError: ``learn`` is None.
        DataError: no user has enough rows.
    """
    if learn is None:
        raise ValueError("learn_next_items is None; expected the function that trains the networks of sequence")
    histories, given = (Histories.of(rows, shape[0]) for rows in (train, train[train["given"]]))
    return next_item_columns(*learn(histories, given, shape[1], config))
