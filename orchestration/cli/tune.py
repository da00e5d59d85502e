"""Tune a recipe and write the best one to a file: ``make tune RECIPE=<name> [TRIALS=20]``."""

import io
import os
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from filelock import FileLock, Timeout

from ml.errors import DataError
from ml.features.collaborative_folds import CollaborativeFolds
from ml.features.feature_map import FeatureMap
from ml.features.moments import map_with_moments, with_moments
from ml.features.splits import PAPER, RANDOM
from ml.files import write_atomically
from ml.training.recipes import Recipe, recipes_text
from orchestration.assets.common import COLLABORATIVE, ENCODED
from orchestration.cli.run import say
from orchestration.config.data_sets import DataSet, default_data_set
from orchestration.config.recipes_in_force import recipes_in_force
from orchestration.config.settings import settings
from orchestration.resources.raw_data import RawData
from orchestration.resources.storage import Storage
from orchestration.tracking.resource import Tracking

if TYPE_CHECKING:
    from ml.training.tuning import TrialResult

_RUN_ATTRIBUTE = "mlflow_run_id"  # of the study


def main(name: str = "", trials: str = "20") -> int:
    """Tune until the study has this number of trials, and print the best; gives the exit status. Raises DataError."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's messages at startup are noise here
    try:
        recipe = _recipe(name)
        if not trials.isdecimal() or int(trials) < 1:
            raise DataError(f"TRIALS is {trials!r}; expected a whole number from 1")
        _tune(name, recipe, int(trials))
    except KeyboardInterrupt:
        say(sys.stdout, "Stopped; the same command resumes with the interrupted trial.")
        return 130
    return 0


def _recipe(name: str) -> Recipe:
    file, recipes = settings().recipes_yaml, recipes_in_force()
    if name not in recipes:
        asked = f"recipe {name!r} is unknown" if name else "RECIPE is missing: make tune RECIPE=<name>"
        raise DataError(f"{asked}; expected one of {', '.join(recipes)}")
    if not recipes[name].search:
        raise DataError(
            f"{file}, recipes.{name}: has nothing to tune; declare ranges or choices for its settings, such as\n"
            "    search:\n"
            "      training.learning_rate: {low: 1.0e-4, high: 1.0e-2, log: true}\n"
            "      model.num_layers: {choices: [1, 2, 3]}"
        )
    return recipes[name]


def _tune(name: str, recipe: Recipe, trials: int) -> None:
    raw_data = RawData.of(DataSet(default_data_set(), PAPER if recipe.protocol == PAPER else RANDOM).key)
    storage = Storage(raw_data=raw_data)
    tables = _tables(storage, recipe)

    from ml.training.data import TrainingData
    from ml.training.threads import share_processors
    from ml.training.tuning import finished_trials, open_study, tune
    from orchestration.tracking.fingerprint import tuning_fingerprint
    from orchestration.tracking.tuning_run import tuning_run

    share_processors(1)
    folder = settings().local_home / "tuning" / raw_data.dataset
    path = folder / f"{name}-{tuning_fingerprint(storage, recipe)}.db"
    tracking = Tracking(raw_data=raw_data)
    with _alone(path):
        study = open_study(path)
        say(
            sys.stdout, f"Tuning {name} on {raw_data.dataset}: {finished_trials(study)} of {trials} trials are finished"
        )
        with tuning_run(tracking, name, study.user_attrs.get(_RUN_ATTRIBUTE)) as run:
            study.set_user_attr(_RUN_ATTRIBUTE, run.run_id)
            best = tune(
                recipe,
                lambda: TrainingData.of(recipe, *tables),
                study,
                trials,
                run.trial,
                lambda result: say(sys.stdout, _line(result, trials)),
            )
            text = recipes_text({name: best.recipe})
            run.log_recipe(text, f"{name}.yaml")
        write_atomically(folder / f"{name}.yaml", text.encode())
    say(sys.stdout, f"\nThe best is trial {best.number}, val_loss {best.val_loss:.5f}. As a recipe:\n\n{text}")
    say(sys.stdout, f"Recipe file: {folder / name}.yaml\nMLflow run: {tracking.run_url(run.run_id)}")


def _alone(path: Path) -> AbstractContextManager[object]:
    """Lock the study's file. Raises DataError if another process has locked it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return FileLock(f"{path}.lock").acquire(timeout=0)
    except Timeout as error:
        raise DataError(f"{path}: another process is running this tuning; wait for it or stop it") from error


def _tables(
    storage: Storage, recipe: Recipe
) -> tuple[pd.DataFrame, FeatureMap, pd.DataFrame, CollaborativeFolds | None]:
    """Training rows, feature map, movies and the recipe's collaborative features as last materialized.

    Rows and feature map have the recipe's moments.

    Raises:
        DataError: one of them is missing, or damaged.
    """
    tables = storage.tables
    train, document, movies = (
        _content(storage, file) for file in ("train_interactions.parquet", "feature_map.json", "movies.parquet")
    )
    file = f"{COLLABORATIVE}.npz"
    collaborative = (
        CollaborativeFolds.from_bytes(_content(storage, file), str(tables / file)) if recipe.signals else None
    )
    rows = pd.read_parquet(io.BytesIO(train))
    encoders = FeatureMap.from_json(document, str(tables / "feature_map.json"))
    if recipe.moments:
        every = pd.read_parquet(io.BytesIO(_content(storage, f"{ENCODED}.parquet")))
        rows = with_moments(rows, every, recipe.moments)
        encoders = map_with_moments(encoders, rows, recipe.moments)
    return rows, encoders, pd.read_parquet(io.BytesIO(movies)), collaborative


def _content(storage: Storage, file: str) -> bytes:
    raw_data, path = storage.raw_data, storage.tables / file
    if not path.exists():
        command = "make paper" if raw_data.split == PAPER else "make run"
        raise DataError(
            f"{path}: missing; run {command} first (data set {raw_data.dataset}; MOVIELENS_DIR sets another one)"
        )
    return path.read_bytes()


def _line(result: "TrialResult", trials: int) -> str:
    texts = {name: f"{value:.4g}" if isinstance(value, float) else str(value) for name, value in result.values.items()}
    values = ", ".join(f"{name} {text}" for name, text in texts.items())
    best = "none" if result.best_loss is None else f"{result.best_loss:.5f}"
    return (
        f"trial {result.number} of {trials}: {result.state}, val_loss {result.val_loss:.5f}, {result.seconds:.0f} s, "
        f"{values}; best {best}"
    )
