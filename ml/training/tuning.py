"""Tune a recipe: try values from its search space, and store the result of each trial in a study's file."""

import logging
import math
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import optuna
from optuna.trial import FrozenTrial, Trial, TrialState

from ml.errors import DataError
from ml.files import digest
from ml.training.data import TrainingData
from ml.training.early_stopping import best_epoch
from ml.training.fitting import Fitting
from ml.training.recipes import Recipe, own_parameters, with_values
from ml.training.reports import EpochReport
from ml.training.search import suggest

_log = logging.getLogger(__name__)
_JOURNALS = ("-journal", "-wal", "-shm")  # of SQLite, beside its file
_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
_UNPRUNED_TRIALS, _UNPRUNED_EPOCHS = 4, 1


@dataclass(frozen=True)
class TrialResult:
    """A finished trial.

    Attributes:
        number: its position among the finished trials, from 1.
        state: COMPLETE or PRUNED.
        val_loss: of a complete trial, that of the epoch whose weights the network has; of a pruned one, of its last.
        seconds: wall-clock time.
        values: of the searched settings.
        best_loss: lowest val_loss of all complete trials so far; None without any.
    """

    number: int
    state: str
    val_loss: float
    seconds: float
    values: Mapping[str, Any]
    best_loss: float | None


@dataclass(frozen=True)
class Tuned:
    """Result of tuning.

    Attributes:
        recipe: with the best trial's values.
        val_loss: of the best trial.
        number: of the best trial.
    """

    recipe: Recipe
    val_loss: float
    number: int


class TrialObserver:
    """Observes a trial; this one ignores it."""

    def log_epoch(self, report: EpochReport) -> None:
        """Receive a finished epoch."""

    def log_result(self, result: TrialResult) -> None:
        """Receive the finished trial."""


Observe = Callable[[int, Mapping[str, Any]], AbstractContextManager[TrialObserver]]


def open_study(path: Path) -> optuna.Study:
    """Open the study in this SQLite file, or create it. For one process at a time.

    A damaged file is renamed with a warning, and the study starts over.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and (damage := _damage_of(path)):
        aside = f"damaged-{digest(path.read_bytes())}"
        for suffix in ("", *_JOURNALS):  # a journal would be applied to the new file
            if (file := path.with_name(f"{path.name}{suffix}")).exists():
                file.rename(file.with_name(f"{file.name}.{aside}"))
        _log.warning("%s: not a study (%s); renamed to %s.%s, tuning starts over", path, damage, path.name, aside)
    return optuna.create_study(
        storage=f"sqlite:///{path}",
        study_name="tuning",
        direction="minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=_UNPRUNED_TRIALS, n_warmup_steps=_UNPRUNED_EPOCHS),
        load_if_exists=True,
    )


def _damage_of(path: Path) -> str | None:
    """Say what is wrong with a SQLite file; None for a sound one. Raises sqlite3.OperationalError if it is locked."""
    with closing(sqlite3.connect(path)) as database:
        try:
            found = str(database.execute("PRAGMA integrity_check(1)").fetchone()[0])
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            return str(error)
    return None if found == "ok" else " ".join(found.split())


def finished_trials(study: optuna.Study) -> int:
    """Return how many trials are complete or pruned."""
    return len(study.get_trials(deepcopy=False, states=_FINISHED))


def tune(
    recipe: Recipe,
    data_of: Callable[[], TrainingData],
    study: optuna.Study,
    trials: int,
    observe: Observe,
    on_trial: Callable[[TrialResult], None],
) -> Tuned:
    """Try values until there are enough trials; the first trial has the recipe's own. Test rows are not used.

    A trial that was interrupted by an exception or a crash is repeated with the same values when tuning resumes, and
    the trials after it are those that would have followed without the interruption.

    Args:
        recipe: with a search space.
        data_of: returns the recipe's training data; called once, and only if a trial is missing.
        study: finished trials so far.
        trials: how many trials, complete or pruned, the study should have.
        observe: called with a trial's number and values; its context lasts as long as the trial.
        on_trial: called after each trial.

    Raises:
        DataError: a value is not valid, or no trial is complete.
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
    """Return the best trial of a study. Raises DataError if no trial is complete."""
    best = _best(study)
    if best is None or best.value is None:
        raise DataError("no trial is complete: every loss was NaN or infinite; narrow the recipe's search space")
    finished = study.get_trials(deepcopy=False, states=_FINISHED)
    number = 1 + [trial.number for trial in finished].index(best.number)
    return Tuned(with_values(recipe, suggest(recipe.search, best)), best.value, number)


def _prepare(recipe: Recipe, study: optuna.Study) -> None:
    """Queue interrupted trials again, or the recipe's own values as the first trial."""
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
    """Train; prune if the loss is not finite or worse than the other trials' median at the same epoch."""
    reports: list[EpochReport] = []

    def epoch_done(report: EpochReport) -> None:
        reports.append(report)
        on_epoch(report)
        trial.report(report.val_loss, report.epoch - 1)
        is_last = report.epoch == report.epochs  # pruning would save nothing
        if not math.isfinite(report.val_loss) or (not is_last and trial.should_prune()):
            raise optuna.TrialPruned

    try:
        Fitting(recipe, data).run(epoch_done)
    except optuna.TrialPruned:
        return TrialState.PRUNED, reports
    return TrialState.COMPLETE, reports


def _best(study: optuna.Study) -> FrozenTrial | None:
    """Return the first complete trial with the lowest loss."""
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    return min(complete, key=lambda trial: trial.values[0], default=None)
