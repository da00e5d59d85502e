"""Where a training begins: at the champion's weights where the recipe asks for that and the rules hold, else at none.

A version's tags say which of them it was, and what it has learned, for the night that goes on from it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg
import pandas as pd

from ml.errors import DataError
from ml.features.feature_map import FeatureMap
from ml.training.config import WarmStartConfig
from ml.training.recipes import Recipe
from orchestration.tracking.fingerprint import FINGERPRINT, Fingerprint
from orchestration.tracking.registered_version import GENERATION, LAST_BATCH, PARENT, WARM_START, RegisteredVersion
from orchestration.tracking.resource import Tracking

if TYPE_CHECKING:
    from ml.training.fitting import Fitting

_NEW_ROWS, _REPLAYED_ROWS = f"{WARM_START}.new_rows", f"{WARM_START}.replayed_rows"
_COUNTS = {_NEW_ROWS: "new", _REPLAYED_ROWS: "replayed"}


@dataclass(frozen=True)
class TrainingTables:
    """What a model is trained on.

    Attributes:
        interactions: the encoded training rows.
        encoders: their feature map.
        users: the preprocessed users.
        movies: the preprocessed movies.
    """

    interactions: pd.DataFrame
    encoders: FeatureMap
    users: pd.DataFrame
    movies: pd.DataFrame


@dataclass(frozen=True)
class Beginning:
    """A training that can be run.

    Attributes:
        fitting: the network with the weights that it begins with, and the rows.
        recipe: that it follows, with a warm start's epochs where it is one.
        tags: of the version that comes of it: its last batch, and from where it began or why from scratch.
    """

    fitting: "Fitting"
    recipe: Recipe
    tags: Mapping[str, str]

    @property
    def is_warm(self) -> bool:
        """Whether it goes on from an earlier version's weights."""
        return PARENT in self.tags

    @property
    def text(self) -> str:
        """What is done, for a person; of a recipe with a warm start."""
        counts = [f"{self.tags[tag]} {what} rows" for tag, what in _COUNTS.items() if tag in self.tags]
        return "; ".join([self.tags[WARM_START], *counts])


def begin(
    tracking: Tracking,
    name: str,
    recipe: Recipe,
    tables: TrainingTables,
    fingerprint: Fingerprint,
    from_scratch: bool = False,
) -> Beginning:
    """Prepare a training.

    The champion's weights are gone on with where it was made by the same code and recipe, fewer than the recipe's
    ``max_generations`` warm starts lie between it and a training from scratch, and rows came after those that it has
    learned.

    Args:
        tracking: of the data set.
        name: of the model.
        recipe: what to do.
        tables: the training rows, with ``ingestion_batch``.
        fingerprint: of the training.
        from_scratch: whatever the rules say.

    Raises:
        dagster.Failure: the rows have no batches.
    """
    from ml.training.warm_start import NoWarmStartError

    settings = recipe.warm_start
    tags = _learned(tables)
    if settings is None:
        return _cold(recipe, tables, tags)
    try:
        if from_scratch:
            raise NoWarmStartError("retrain was asked for")
        parent, parent_tags = _parent(tracking, name, settings, fingerprint)
        return _warm(tracking, recipe, settings, tables, parent, parent_tags, tags)
    except NoWarmStartError as reason:
        return _cold(recipe, tables, {**tags, WARM_START: f"from scratch: {reason}", GENERATION: "0"})


def _learned(tables: TrainingTables) -> dict[str, str]:
    from ml.training.warm_start import last_batch

    try:
        return {LAST_BATCH: str(last_batch(tables.interactions))}
    except DataError as error:
        raise dg.Failure(str(error), allow_retries=False) from error


def _parent(
    tracking: Tracking, name: str, settings: WarmStartConfig, fingerprint: Fingerprint
) -> tuple[RegisteredVersion, Mapping[str, str]]:
    """The champion and its tags. Raises NoWarmStartError where nothing may go on from it."""
    from ml.training.warm_start import NoWarmStartError

    champion = tracking.champion(name)
    if champion is None:
        raise NoWarmStartError("no version is published")
    tags = tracking.tags_of(champion)
    for part in ("code", "recipe"):
        tag = f"{FINGERPRINT}.{part}"
        if tags.get(tag) != fingerprint.tags[tag]:
            raise NoWarmStartError(f"version {champion.version}, the champion, is of another {part}")
    if int(tags[GENERATION]) >= settings.max_generations:
        raise NoWarmStartError(
            f"version {champion.version}, the champion, is the last of {tags[GENERATION]} warm starts in a row"
        )
    return champion, tags


def _warm(
    tracking: Tracking,
    recipe: Recipe,
    settings: WarmStartConfig,
    tables: TrainingTables,
    parent: RegisteredVersion,
    parent_tags: Mapping[str, str],
    tags: Mapping[str, str],
) -> Beginning:
    from ml.training.data import TrainingData
    from ml.training.fitting import Fitting
    from ml.training.warm_start import choose_rows, continue_from, warm_recipe

    since = int(parent_tags[LAST_BATCH])
    chosen = choose_rows(tables.interactions, recipe, settings, since)
    followed = warm_recipe(recipe, settings)
    data = TrainingData.of(followed, tables.interactions, tables.encoders, tables.movies, chosen.positions)
    fitting = Fitting(followed, data)
    continue_from(tracking.load_bundle(parent), fitting.network, followed, tables.encoders, tables.movies)
    own = {
        WARM_START: f"from version {parent.version}, which has learned up to batch {since}",
        PARENT: parent.version,
        GENERATION: str(int(parent_tags[GENERATION]) + 1),
        _NEW_ROWS: str(chosen.new),
        _REPLAYED_ROWS: str(chosen.replayed),
    }
    return Beginning(fitting, followed, {**tags, **own})


def _cold(recipe: Recipe, tables: TrainingTables, tags: Mapping[str, str]) -> Beginning:
    from ml.training.data import TrainingData
    from ml.training.fitting import Fitting

    data = TrainingData.of(recipe, tables.interactions, tables.encoders, tables.movies)
    return Beginning(Fitting(recipe, data), recipe, tags)
