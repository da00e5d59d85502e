"""What a recipe makes of the training rows: the rows that are fitted on and all that the network sees of them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from ml import schema
from ml.features.collaborative import PairSignals, fit_signals, out_of_fold_signals
from ml.features.feature_map import FeatureMap
from ml.features.membership import membership_of
from ml.features.negatives import SOURCE, sample_negatives
from ml.models.autoint import Inputs, Multivalued
from ml.training.recipes import Recipe
from ml.training.trainer import fitted_rows

PAIR = (schema.FIELD_NAMES.index("user_id"), schema.FIELD_NAMES.index("movie_id"))


@dataclass(frozen=True)
class TrainingData:
    """Rows to fit on, by a recipe. Settings of model and training other than the validation share do not matter to it.

    Attributes:
        rows: encoded rows with label.
        numbers: float32 [rows, numbers], of signals (out of fold) or of the recipe's number columns; None without any.
        pairs: the signals of all pairs; None without any.
        inputs: what the network is built for.
    """

    rows: pd.DataFrame
    numbers: np.ndarray | None
    pairs: PairSignals | None
    inputs: Inputs

    @classmethod
    def of(
        cls,
        recipe: Recipe,
        train_interactions: pd.DataFrame,
        feature_map: FeatureMap,
        movies: pd.DataFrame,
        chosen: np.ndarray | None = None,
    ) -> "TrainingData":
        """Follow the recipe.

        Args:
            recipe: what to do.
            train_interactions: encoded rows in shuffled order.
            feature_map: that encoded them.
            movies: the movies table.
            chosen: int [n], positions of the rows to fit on, in shuffled order; default: all. Signals, and what a user
                has rated, are of all training rows in any case.
        """
        known_movies = feature_map.known("movie_id", movies)
        rows, sources = train_interactions, None
        if recipe.negatives:
            movie_codes = feature_map.side("movie").transform(known_movies)
            rows = sample_negatives(train_interactions, movie_codes, recipe.negatives, chosen)
            sources = rows[SOURCE].to_numpy()
        elif chosen is not None:
            rows, sources = train_interactions.iloc[chosen].reset_index(drop=True), chosen
        numbers, pairs = None, None
        if recipe.signals:
            sizes = feature_map.field_dims[PAIR[0]], feature_map.field_dims[PAIR[1]]
            numbers = out_of_fold_signals(train_interactions, *sizes, recipe.signals, rows, sources)
            pairs = fit_signals(train_interactions, *sizes, recipe.signals)
        elif recipe.numbers:
            numbers = rows[list(recipe.numbers)].to_numpy(np.float32)
        multivalued = tuple(
            Multivalued(name, PAIR[1], membership_of(known_movies[name])[1]) for name in recipe.multivalued
        )
        centres, scales = _standardisation(numbers, fitted_rows(len(rows), recipe.training))
        inputs = Inputs(feature_map.field_dims, recipe.positions, centres, scales, multivalued)
        return cls(rows, numbers, pairs, inputs)


def _standardisation(numbers: np.ndarray | None, fitted: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each number over the rows that are fitted on."""
    if numbers is None:
        return [], []
    values = numbers[:fitted].astype(np.float64)
    scales = np.maximum(values.std(axis=0), 1e-6)  # a number that never changes
    return values.mean(axis=0).tolist(), scales.tolist()
