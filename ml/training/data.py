"""Make the rows that a recipe's network learns from, and its inputs."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ml.data.blocks import BLOCK_ROWS
from ml.data.mapped import release
from ml.features.collaborative_folds import CollaborativeFolds
from ml.features.collaborative_tables import CollaborativeTables
from ml.features.feature_map import FeatureMap
from ml.features.membership import membership_of
from ml.features.negatives import SOURCE, sample_negatives
from ml.models.autoint import Inputs, Multivalued, Token
from ml.training.recipes import Recipe
from ml.training.trainer import fitted_rows

PAIR = (0, 1)  # positions of user_id and movie_id among the features of every data set


@dataclass(frozen=True)
class TrainingData:
    """What a recipe makes of the training rows.

    Of the settings of model and training, only the validation share matters to it.

    Attributes:
        rows: encoded rows with label.
        numbers: numeric features, float32 [rows, numeric features]: collaborative ones (out of fold), or the recipe's
            own columns; None without any.
        pairs: tables of the collaborative features of all pairs; None without any.
        inputs: what the network is built for.
    """

    rows: pd.DataFrame
    numbers: np.ndarray | None
    pairs: CollaborativeTables | None
    inputs: Inputs

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        train_interactions: pd.DataFrame,
        feature_map: FeatureMap,
        movies: pd.DataFrame,
        collaborative: CollaborativeFolds | None = None,
        chosen: np.ndarray | None = None,
        scratch: Path | None = None,
    ) -> "TrainingData":
        """Make the training data of a recipe.

        Args:
            recipe: features, negatives and settings; features that the feature map lacks are left out.
            train_interactions: encoded rows in shuffled order; with the recipe's moments, see ``ml.features.moments``.
            feature_map: that encoded them, likewise.
            movies: the movies table.
            collaborative: collaborative features, fitted on all training rows; for a recipe without them, None will do.
            chosen: int [n], positions of the rows to learn from, in shuffled order; default: all. Which movies a user
                has rated is taken from all training rows in any case.
            scratch: where rows and numeric features are kept if they are many, see ``ml.data.mapped``.

        Raises:
            ValueError: the recipe's moments or collaborative features are not given.
            DataError: they were fitted on other rows, or with other settings.
        """
        recipe = recipe.within(feature_map)
        if missing := [name for name in recipe.moments if name not in feature_map.names]:
            raise ValueError(f"the feature map lacks {', '.join(missing)}; expected the moments that the recipe has")
        known_movies = feature_map.known("movie_id", movies)
        rows, sources = train_interactions, None
        if recipe.negatives:
            movie_indices = feature_map.side("movie").transform(known_movies)
            rows = sample_negatives(train_interactions, movie_indices, recipe.negatives, chosen, scratch)
            sources = rows[SOURCE].to_numpy()
        elif chosen is not None:
            rows, sources = train_interactions.iloc[chosen].reset_index(drop=True), chosen
        numbers, pairs = None, None
        if recipe.signals:
            if collaborative is None:
                raise ValueError("collaborative is None; expected the collaborative features that the recipe has")
            collaborative.require(len(train_interactions), *(feature_map.field_dims[position] for position in PAIR))
            numbers = collaborative.out_of_fold(recipe.signals, rows, sources, scratch)
            pairs = collaborative.tables(recipe.signals)
        elif recipe.numbers:
            numbers = rows[list(recipe.numbers)].to_numpy(np.float32)
        multivalued = tuple(
            Multivalued(name, PAIR[1], membership_of(known_movies[name], feature_map[name]))
            for name in recipe.multivalued
        )
        fitted = fitted_rows(len(rows), recipe.training)
        centres, scales = _standardization(numbers, fitted)
        rated = rows["rating"].to_numpy(np.float32)[: fitted : group_of(recipe)]
        [rating_centre], [rating_scale] = _standardization(rated[:, None], len(rated))
        inputs = Inputs(
            feature_map.field_dims,
            recipe.positions(feature_map.names),
            centres,
            scales,
            multivalued,
            rating_centre,
            rating_scale,
            _tokens(recipe, feature_map, pairs),
        )
        return cls(rows, numbers, pairs, inputs)


def group_of(recipe: Recipe) -> int:
    """Return how many consecutive rows belong together: a like and its sampled negatives, or else one."""
    return 1 + recipe.negatives.per_positive if recipe.negatives else 1


def _tokens(recipe: Recipe, feature_map: FeatureMap, pairs: CollaborativeTables | None) -> tuple[Token, ...]:
    """Return the embedded features of a recipe in the network's order."""
    fields = [Token(name, feature_map[name].side) for name in recipe.fields]
    multivalued = [Token(name, "movie") for name in recipe.multivalued]
    numeric = [Token(name, "pair") for name in pairs.names] if pairs else []
    return (*fields, *multivalued, *numeric, *(Token(name, "context") for name in recipe.numbers))


def _standardization(numbers: np.ndarray | None, fitted: int) -> tuple[list[float], list[float]]:
    """Return the mean and standard deviation of each numeric feature over the rows that are learned from."""
    if numbers is None:
        return [], []
    means = _column_sums(numbers[:fitted], lambda block: block) / fitted
    squares = _column_sums(numbers[:fitted], lambda block: (block - means) ** 2)
    scales = np.maximum(np.sqrt(squares / fitted), 1e-6)  # if one never changes
    return means.tolist(), scales.tolist()


def _column_sums(numbers: np.ndarray, of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return the sums of a function of the values, float64 [columns], some rows at a time."""
    total = np.zeros(numbers.shape[1])
    for start in range(0, len(numbers), BLOCK_ROWS):
        total += of(numbers[start : start + BLOCK_ROWS].astype(np.float64)).sum(axis=0)
        release(numbers)
    return total
