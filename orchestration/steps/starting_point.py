"""Choose the weights that a training starts with: the champion's where the recipe and its rules allow, else new ones.

A version's tags record the choice and its last ingestion batch, for the run that continues from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
import numpy as np
import pandas as pd

from ml.errors import DataError
from ml.features.collaborative_folds import CollaborativeFolds
from ml.features.feature_map import FeatureMap
from ml.features.moments import map_with_moments, with_first_times, with_moments
from ml.training.config import WarmStartConfig
from ml.training.recipes import Recipe
from orchestration.tracking.fingerprint import FINGERPRINT, Fingerprint
from orchestration.tracking.registered_version import GENERATION, LAST_BATCH, PARENT, WARM_START, RegisteredVersion
from orchestration.tracking.resource import Tracking

if TYPE_CHECKING:
    from ml.training.data import TrainingData
    from ml.training.fitting import Fitting

_NEW_ROWS, _REPLAYED_ROWS = f"{WARM_START}.new_rows", f"{WARM_START}.replayed_rows"
_COUNTS = {_NEW_ROWS: "new", _REPLAYED_ROWS: "replayed"}


@dataclass(frozen=True)
class TrainingTables:
    """The tables that a model is trained on.

    Attributes:
        interactions: encoded training rows.
        encoders: their feature map.
        users: preprocessed users.
        movies: preprocessed movies.
        collaborative: fitted collaborative features; None for a recipe without them.
        scratch: directory for what is too large for memory, see ``ml.data.mapped``.
    """

    interactions: pd.DataFrame
    encoders: FeatureMap
    users: pd.DataFrame
    movies: pd.DataFrame
    collaborative: CollaborativeFolds | None = None
    scratch: Path | None = None

    def with_moments(self, encoded_interactions: pd.DataFrame, names: tuple[str, ...]) -> "TrainingTables":
        """Add features of the rows' moments, computed from the times of all interactions."""
        rows = with_moments(self.interactions, encoded_interactions, names)
        encoders = map_with_moments(self.encoders, rows, names)
        return replace(
            self, interactions=rows, encoders=encoders, users=with_first_times(self.users, rows, self.encoders)
        )


@dataclass(frozen=True)
class TrainingTask:
    """What to train.

    Attributes:
        name: of the model.
        recipe: what to train from, with the launch's settings.
        tables: what to train on; the training rows have the column ``ingestion_batch``.
        fingerprint: of the training.
        from_scratch: whether a warm start is ruled out.
    """

    name: str
    recipe: Recipe
    tables: TrainingTables
    fingerprint: Fingerprint
    from_scratch: bool = False


@dataclass(frozen=True)
class Beginning:
    """A training that is ready to run.

    Attributes:
        fitting: the network with its first weights, and the rows.
        recipe: what to train from; for a warm start, with the epochs of a warm start.
        tags: of the resulting version: its last ingestion batch, and where it started or why from scratch.
    """

    fitting: "Fitting"
    recipe: Recipe
    tags: Mapping[str, str]

    @property
    def is_warm(self) -> bool:
        """Whether it starts with an earlier version's weights."""
        return PARENT in self.tags

    @property
    def text(self) -> str:
        """Describe the start to people. Needs a recipe with a warm start."""
        counts = [f"{self.tags[tag]} {what} rows" for tag, what in _COUNTS.items() if tag in self.tags]
        return "; ".join([self.tags[WARM_START], *counts])


def begin(tracking: Tracking, task: TrainingTask) -> Beginning:
    """Prepare a training.

    It continues from the champion where the champion was trained with the same code and recipe, has fewer than the
    recipe's ``max_generations`` warm starts behind it, and newer rows have arrived.

    Raises:
        dagster.Failure: the rows have no ingestion batches, or the collaborative features are those of other rows or
            settings. The step is not retried.
    """
    from ml.training.warm_start import NoWarmStartError

    tags = _learned(task.tables)
    if task.recipe.warm_start is None:
        return _cold(task, tags)
    try:
        if task.from_scratch:
            raise NoWarmStartError("retrain was requested")
        parent, parent_tags = _parent(tracking, task, task.recipe.warm_start)
        return _warm(tracking, task, task.recipe.warm_start, parent, parent_tags, tags)
    except NoWarmStartError as reason:
        return _cold(task, {**tags, WARM_START: f"from scratch: {reason}", GENERATION: "0"})


def _learned(tables: TrainingTables) -> dict[str, str]:
    from ml.training.warm_start import last_batch

    try:
        return {LAST_BATCH: str(last_batch(tables.interactions))}
    except DataError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def _parent(
    tracking: Tracking, task: TrainingTask, settings: WarmStartConfig
) -> tuple[RegisteredVersion, Mapping[str, str]]:
    """The champion and its tags. Raises NoWarmStartError where no training may continue from it."""
    from ml.training.warm_start import NoWarmStartError

    champion = tracking.champion(task.name)
    if champion is None:
        raise NoWarmStartError("no version is published")
    tags = tracking.tags_of(champion)
    for part in ("code", "recipe"):
        tag = f"{FINGERPRINT}.{part}"
        if tags.get(tag) != task.fingerprint.tags[tag]:
            raise NoWarmStartError(f"version {champion.version}, the champion, was trained with another {part}")
    if int(tags[GENERATION]) >= settings.max_generations:
        raise NoWarmStartError(
            f"version {champion.version}, the champion, is the last of {tags[GENERATION]} warm starts in a row"
        )
    return champion, tags


def _warm(
    tracking: Tracking,
    task: TrainingTask,
    settings: WarmStartConfig,
    parent: RegisteredVersion,
    parent_tags: Mapping[str, str],
    tags: Mapping[str, str],
) -> Beginning:
    from ml.training.fitting import Fitting
    from ml.training.warm_start import choose_rows, continue_from, warm_recipe

    tables, since = task.tables, int(parent_tags[LAST_BATCH])
    chosen = choose_rows(tables.interactions, task.recipe, settings, since)
    followed = warm_recipe(task.recipe, settings)
    fitting = Fitting(followed, _data(followed, tables, chosen.positions))
    continue_from(tracking.load_bundle(parent), fitting.network, followed, tables.encoders)
    own = {
        WARM_START: f"from version {parent.version}, trained on data up to ingestion batch {since}",
        PARENT: parent.version,
        GENERATION: str(int(parent_tags[GENERATION]) + 1),
        _NEW_ROWS: str(chosen.new),
        _REPLAYED_ROWS: str(chosen.replayed),
    }
    return Beginning(fitting, followed, {**tags, **own})


def _cold(task: TrainingTask, tags: Mapping[str, str]) -> Beginning:
    from ml.training.fitting import Fitting

    return Beginning(Fitting(task.recipe, _data(task.recipe, task.tables)), task.recipe, tags)


def _data(recipe: Recipe, tables: TrainingTables, chosen: np.ndarray | None = None) -> "TrainingData":
    from ml.training.data import TrainingData

    try:
        return TrainingData.of(
            recipe, tables.interactions, tables.encoders, tables.movies, tables.collaborative, chosen, tables.scratch
        )
    except DataError as error:  # such as collaborative features of other settings
        raise dg.Failure(str(error), allow_retries=False) from error
