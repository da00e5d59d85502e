"""Tune a recipe: try values from its search space, and keep what came of each trial in a study's file."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import optuna
import pandas as pd
from optuna.trial import FrozenTrial, Trial, TrialState

from ml.errors import DataError
from ml.features.feature_map import FeatureMap
from ml.training.data import TrainingData
from ml.training.early_stopping import best_epoch
from ml.training.fitting import Fitting
from ml.training.recipes import Recipe, own_parameters, with_values
from ml.training.reports import EpochReport
from ml.training.search import suggest

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_NO_MATTER = {"description", "enabled", "warm_start"}  # of a recipe, to what comes of a trial
_UNPRUNED_TRIALS, _UNPRUNED_EPOCHS = 4, 1


@dataclass(frozen=True)
class TrialResult:
    """One finished trial.

    Attributes:
        number: its place among the finished ones, from 1.
        state: COMPLETE, or PRUNED where it was given up.
        val_loss: of the epoch whose weights the network was left with, where it was not given up; else of the last.
        seconds: wall-clock time.
        values: of the settings that are searched.
        best_loss: the lowest val_loss of all complete trials so far; None without any.
    """

    number: int
    state: str
    val_loss: float
    seconds: float
    values: Mapping[str, Any]
    best_loss: float | None


@dataclass(frozen=True)
class Tuned:
    """What a tuning has found.

    Attributes:
        recipe: with the best trial's values.
        val_loss: of that trial.
        number: of that trial.
    """

    recipe: Recipe
    val_loss: float
    number: int


class TrialObserver:
    """Is told how a trial goes; this one does not care."""

    def log_epoch(self, report: EpochReport) -> None:
        """An epoch is done."""

    def log_result(self, result: TrialResult) -> None:
        """The trial is done."""


Observe = Callable[[int, Mapping[str, Any]], AbstractContextManager[TrialObserver]]


def unobserved(number: int, values: Mapping[str, Any]) -> AbstractContextManager[TrialObserver]:
    """Tell nobody how a trial goes."""
    return nullcontext(TrialObserver())


def study_name(
    name: str, recipe: Recipe, train_interactions: pd.DataFrame, feature_map: FeatureMap, movies: pd.DataFrame
) -> str:
    """The recipe's name and a fingerprint of all that decides what comes of a trial, other than the code."""
    digest = hashlib.sha256()
    digest.update(pd.util.hash_pandas_object(train_interactions, index=False).to_numpy().tobytes())
    digest.update(json.dumps(feature_map.to_dict()).encode() + movies.to_json(orient="split").encode())
    digest.update(recipe.model_dump_json(exclude=_NO_MATTER).encode() + keras.config.backend().encode())
    return f"{name}-{digest.hexdigest()[:16]}"


def open_study(path: Path) -> optuna.Study:
    """The study that is kept in this SQLite file, a new one where there is none. For one process at a time."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    return optuna.create_study(
        storage=f"sqlite:///{path}",
        study_name="tuning",
        direction="minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_UNPRUNED_TRIALS, n_warmup_steps=_UNPRUNED_EPOCHS),
        load_if_exists=True,
    )


def finished_trials(study: optuna.Study) -> int:
    """How many are complete or pruned."""
    return len(study.get_trials(deepcopy=False, states=_FINISHED))


def tune(
    recipe: Recipe,
    data_of: Callable[[], TrainingData],
    study: optuna.Study,
    trials: int,
    observe: Observe = unobserved,
    on_trial: Callable[[TrialResult], None] = lambda result: None,
) -> Tuned:
    """Try values until there are enough trials; the first has the recipe's own. Test rows are not involved.

    A trial that an exception ended, or the end of its process, is repeated with the same values when the study is tuned
    again, and the trials after it are those that would have followed without the interruption.

    Args:
        recipe: with a search space.
        data_of: makes the data of the recipe; called once, and only if a trial is missing.
        study: what is known so far.
        trials: complete or pruned ones that are wanted in all.
        observe: called with a trial's number and values; what it gives is entered for the trial's time.
        on_trial: called when a trial is finished.

    Raises:
        DataError: a value is refused, or no trial is complete.
    """
    _prepare(recipe, study)
    data = None
    while (done := finished_trials(study)) < trials:
        data = data or data_of()
        keras.backend.clear_session()
        study.sampler = optuna.samplers.TPESampler(seed=recipe.training.seed + done)
        trial = study.ask()
        values = suggest(recipe.search, trial)
        tried = with_values(recipe, values)
        with observe(done + 1, values) as observer:
            state, reports = _follow(tried, data, trial, observer.log_epoch)
            complete = state == TrialState.COMPLETE
            loss = reports[best_epoch(reports, tried.training) - 1 if complete else -1].val_loss
            told = study.tell(trial, loss if complete else None, state)
            seconds = told.duration.total_seconds() if told.duration else 0.0
            best = _best(study)
            best_loss = best.value if best else None
            result = TrialResult(done + 1, state.name, loss, seconds, values, best_loss)
            observer.log_result(result)
        on_trial(result)
    return tuned(recipe, study)


def tuned(recipe: Recipe, study: optuna.Study) -> Tuned:
    """The best that a study has found. Raises DataError where no trial is complete."""
    best = _best(study)
    if best is None or best.value is None:
        raise DataError("no trial is complete: no loss of any was a number; narrow the recipe's search space")
    finished = study.get_trials(deepcopy=False, states=_FINISHED)
    number = 1 + [trial.number for trial in finished].index(best.number)
    return Tuned(with_values(recipe, suggest(recipe.search, best)), best.value, number)


def _prepare(recipe: Recipe, study: optuna.Study) -> None:
    """Have interrupted trials repeated, and the recipe's own values tried first."""
    own = own_parameters(recipe)
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)
        if trial.params.keys() == recipe.search.keys():
            study.enqueue_trial(trial.params)
    if not study.get_trials(deepcopy=False, states=(*_FINISHED, TrialState.WAITING)):
        study.enqueue_trial(own)


def _follow(
    recipe: Recipe, data: TrainingData, trial: Trial, on_epoch: Callable[[EpochReport], None]
) -> tuple[TrialState, list[EpochReport]]:
    """Train, and give up where the loss is no number or worse than the other trials' median at the same epoch."""
    reports: list[EpochReport] = []

    def epoch_done(report: EpochReport) -> None:
        reports.append(report)
        on_epoch(report)
        trial.report(report.val_loss, report.epoch - 1)
        is_last = report.epoch == report.epochs  # nothing is left to be saved
        if not math.isfinite(report.val_loss) or (not is_last and trial.should_prune()):
            raise optuna.TrialPruned

    try:
        Fitting(recipe, data).run(epoch_done)
    except optuna.TrialPruned:
        return TrialState.PRUNED, reports
    return TrialState.COMPLETE, reports


def _best(study: optuna.Study) -> FrozenTrial | None:
    """The first of the complete trials of the lowest loss."""
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return min(complete, key=lambda trial: trial.values[0], default=None)
