"""Train a network from a recipe."""

import hashlib
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import keras
import numpy as np
import pandas as pd

from ml import schema
from ml.data.blocks import BLOCK_ROWS
from ml.features.histories import Histories
from ml.features.item_vectors import word2vec
from ml.files import shortened
from ml.models.autoint import build_model, with_collaborative
from ml.models.config import AutoIntMultitaskConfig, SASRecConfig
from ml.models.layers import FieldEmbedding
from ml.models.sequence import NextItemModel, serving_network
from ml.training.checkpoint import Checkpoint
from ml.training.data import PAIR, TrainingData, group_of
from ml.training.history_trainer import states_of, train_on_histories
from ml.training.next_item import sasrec_vectors
from ml.training.objective import Objective, likes, likes_and_ratings
from ml.training.parallel import Workers
from ml.training.recipes import Recipe
from ml.training.reports import BatchReport, EpochReport
from ml.training.trainer import fitted_rows, train

# Learners of first vectors by name in ``pretrained``; they get histories, the number of items, the width
# and the seed.
FIRST_VECTORS: dict[str, Callable[[Histories, int, int, int], np.ndarray]] = {
    "word2vec": word2vec,
    "sasrec": sasrec_vectors,
}


class Fitting:
    """One training from a recipe, on data that the same recipe made.

    Args:
        recipe: architecture and settings.
        data: rows and inputs.

    Attributes:
        network: with its first weights; ``run`` trains it.
    """

    def __init__(self, recipe: Recipe, data: TrainingData) -> None:
        self._recipe, self._data = recipe, data
        self.network = _first_network(recipe, data)

    def run(
        self,
        on_epoch: Callable[[EpochReport], None],
        on_batch: Callable[[BatchReport], None] = lambda report: None,
        checkpoint: Checkpoint | None = None,
        workers: Workers | None = None,
    ) -> list[EpochReport]:
        """Train the network; see ``ml.training.trainer.train``, or ``ml.training.history_trainer`` for SASRec.

        Raises ValueError for ``workers`` where ``is_shared`` is false.
        """
        data = self._data
        if workers and not self.is_shared:
            raise ValueError(f"{self._recipe.architecture} cannot be trained by several workers")
        if isinstance(self.network, NextItemModel):
            return train_on_histories(
                self.network, self._histories, self._recipe.training, on_epoch, on_batch, checkpoint
            )
        return train(
            self.network,
            data.rows,
            self._recipe.training,
            on_epoch,
            on_batch,
            checkpoint,
            numbers=data.numbers,
            objective=self._objective(),
            workers=workers,
        )

    def packed(self) -> tuple[Recipe, TrainingData, list[np.ndarray]]:
        """Return all that another process needs to run the same training."""
        return self._recipe, self._data, self.network.get_weights()

    @classmethod
    def unpacked(cls, packed: tuple[Recipe, TrainingData, list[np.ndarray]]) -> "Fitting":
        """Return a training like that which was packed."""
        recipe, data, weights = packed
        fitting = cls(recipe.model_copy(update={"pretrained": {}}), data)  # the weights hold these vectors
        fitting.network.set_weights(weights)
        return fitting

    @property
    def is_shared(self) -> bool:
        """Whether several workers can train the network together, and learn what one process learns.

        Batch normalization would average over each worker's part of a batch alone.
        """
        normalizes = any(isinstance(layer, keras.layers.BatchNormalization) for layer in self.network.layers)
        is_next_item = isinstance(self.network, NextItemModel)
        return keras.config.backend() == "tensorflow" and not (is_next_item or normalizes)

    def _objective(self) -> Objective:
        recipe, data = self._recipe, self._data
        if not isinstance(recipe.model, AutoIntMultitaskConfig):
            return likes(data.rows)
        return likes_and_ratings(data.rows, recipe.model, data.inputs.rating_scale, group_of(recipe))

    def checkpoint(self, folder: Path, fingerprint: str) -> Checkpoint:
        """Return the checkpoint of exactly this training; remove those of other trainings in ``folder``.

        Args:
            folder: of all trainings of a model.
            fingerprint: of tables, code and recipe. A warm start's settings, rows and first weights are added to it.
        """
        hashed = hashlib.sha256(f"{fingerprint} {self._recipe.fingerprint()}".encode())
        rows = self._data.rows
        for start in range(0, len(rows), BLOCK_ROWS):
            block = rows.iloc[start : start + BLOCK_ROWS]
            hashed.update(pd.util.hash_pandas_object(block, index=False).to_numpy().tobytes())
        for weights in self.network.get_weights():
            hashed.update(weights.tobytes())
        return Checkpoint.only(folder, shortened(hashed))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the embedded features in the network's order."""
        return tuple(token.name for token in self._data.inputs.tokens)

    def held_out(self, most: int) -> list[np.ndarray]:
        """Return the network's inputs of the last validation rows.

        Args:
            most: number of rows; fewer if there are fewer.

        Returns:
            Indices int32 [rows, features], and numeric features float32 [rows, numeric features] if there are any.
        """
        rows, numbers = self._data.rows, self._data.numbers
        first = max(fitted_rows(len(rows), self._recipe.training), len(rows) - most)
        indices = rows.iloc[first:].loc[:, : schema.LABEL].iloc[:, :-1].to_numpy("int32")
        return [indices] if numbers is None else [indices, numbers[first:]]

    @property
    def serving_network(self) -> keras.Model:
        """The network as it is now, for indices int32 [rows, features] and the recipe's own numeric features only."""
        data = self._data
        if isinstance(self.network, NextItemModel):
            states = states_of(self.network, self._histories)
            return serving_network(states, self.network.vectors, PAIR, len(data.inputs.field_dims))
        return with_collaborative(self.network, data.pairs, PAIR) if data.pairs else self.network

    @cached_property
    def _histories(self) -> Histories:
        users = self._data.inputs.field_dims[PAIR[0]]
        return Histories.of(self._data.rows, users)


def _first_network(recipe: Recipe, data: TrainingData) -> keras.Model:
    """Return a recipe's network with its first weights."""
    if isinstance(recipe.model, SASRecConfig):
        return NextItemModel(data.inputs.field_dims[PAIR[1]], recipe.model, recipe.training.seed)
    network = build_model(recipe.architecture, data.inputs, recipe.model, recipe.training.seed)
    if recipe.pretrained:
        _start_with_vectors(network.get_layer("embedding"), recipe, data)
    return network


def _start_with_vectors(embedding: FieldEmbedding, recipe: Recipe, data: TrainingData) -> None:
    """Set the embeddings of the movies to vectors learned from the rows that are learned from.

    They have the standard deviation of the first weights, which those of movies without such rows keep.
    """
    dims, position = data.inputs.field_dims, PAIR[1]
    rows = data.rows.iloc[: fitted_rows(len(data.rows), recipe.training)]
    learn = FIRST_VECTORS[recipe.pretrained["movie_id"]]
    vectors = learn(Histories.of(rows, dims[PAIR[0]]), dims[position], embedding.embed_dim, recipe.training.seed)
    positions = range(len(dims)) if data.inputs.positions is None else list(data.inputs.positions)
    start = int(embedding.offsets[positions.index(position)])
    table = keras.ops.convert_to_numpy(embedding.table).copy()
    known = start + np.flatnonzero(vectors.any(axis=1))
    table[known] = vectors[known - start] * table.std()
    embedding.table.assign(table)
