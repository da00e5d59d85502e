import math
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from optuna.trial import TrialState

from ml.errors import DataError
from ml.features.feature_map import FeatureMap
from ml.features.splits import split_interactions
from ml.training import tuning
from ml.training.data import TrainingData
from ml.training.recipes import Recipe, with_values
from ml.training.reports import EpochReport
from ml.training.search import suggest
from ml.training.tuning import TrialObserver, TrialResult, finished_trials, open_study, tune
from tests.feature_maps import encode_interactions

RATE = "training.learning_rate"
Curve = Callable[[Recipe], list[float]]


def recipe_of(search: Any, **training: Any) -> Recipe:
    return Recipe(
        description="For tests.",
        architecture="autoint",
        fields=("movie_year", "gender"),
        model={"embed_dim": 4, "num_layers": 1, "head_dim": 4},
        training={"epochs": 3, "batch_size": 256, **training},
        search=search,
    )  # type: ignore[arg-type]


SEARCHED = recipe_of({RATE: {"low": 1e-5, "high": 1e-1, "log": True}, "model.num_layers": {"low": 1, "high": 3}})


@pytest.fixture(scope="module")
def empty_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's file without trials; copying it is quicker than making its tables."""
    path = tmp_path_factory.mktemp("study") / "folder" / "study.db"
    open_study(path)
    return path


@pytest.fixture
def study(empty_study: Path, tmp_path: Path) -> optuna.Study:
    return open_study(Path(shutil.copy(empty_study, tmp_path / "study.db")))


STUDY_DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[:5000],
    "text": lambda data: b"no database" * 100,
    "a page of zeros": lambda data: data[:4096] + bytes(4096) + data[8192:],
    "the header": lambda data: bytes(100) + data[100:],
}


@pytest.mark.parametrize("damage", STUDY_DAMAGES)
def test_a_damaged_study_is_renamed_and_starts_over(
    damage: str, empty_study: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, damaged = tmp_path / "study.db", STUDY_DAMAGES[damage](empty_study.read_bytes())
    path.write_bytes(damaged)
    (tmp_path / "study.db-journal").write_bytes(b"of the damaged file")
    assert finished_trials(open_study(path)) == 0
    [warning] = caplog.messages
    assert warning.startswith(f"{path}: not a study (")
    [aside] = tmp_path.glob("study.db.damaged-*")
    assert aside.read_bytes() == damaged
    assert warning.endswith(f"renamed to {aside.name}, tuning starts over")
    assert not (tmp_path / "study.db-journal").exists()
    assert finished_trials(open_study(path)) == 0
    assert len(caplog.messages) == 1


@pytest.mark.parametrize("content", [b"", None])
def test_an_empty_study_is_filled_and_a_sound_one_is_kept(
    content: bytes | None, empty_study: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "study.db"
    path.write_bytes(empty_study.read_bytes() if content is None else content)
    open_study(path)
    assert ([file.name for file in tmp_path.iterdir()], caplog.messages) == (["study.db"], [])


@pytest.fixture
def learn(monkeypatch: pytest.MonkeyPatch) -> Callable[[Curve], None]:
    """Have trainings report the validation losses of a curve, without any training."""

    def learn(curve: Curve) -> None:
        class Fitting:
            def __init__(self, recipe: Recipe, data: TrainingData) -> None:
                assert data is DATA
                self._losses = curve(recipe)

            def run(self, on_epoch: Callable[[EpochReport], None]) -> list[EpochReport]:
                reports = [EpochReport(e, len(self._losses), 1, loss, 1, 1) for e, loss in enumerate(self._losses, 1)]
                for report in reports:
                    on_epoch(report)
                return reports

        monkeypatch.setattr(tuning, "Fitting", Fitting)
        monkeypatch.setattr("keras.backend.clear_session", lambda: None)  # slow, and nothing is built

    return learn


class Observed(TrialObserver):
    def __init__(self, watch: "Watch", number: int) -> None:
        self._watch, self._number = watch, number

    def log_epoch(self, report: EpochReport) -> None:
        self._watch.epochs.append((self._number, report.epoch))
        self._watch.on_epoch(self._number, report.epoch)

    def log_result(self, result: TrialResult) -> None:
        self._watch.observed.append(result)


class Watch:
    """Remembers all that a tuning tells."""

    def __init__(self, on_epoch: Callable[[int, int], None] = lambda trial, epoch: None) -> None:
        self.on_epoch = on_epoch
        self.values: dict[int, Mapping[str, Any]] = {}
        self.epochs: list[tuple[int, int]] = []
        self.observed: list[TrialResult] = []
        self.results: list[TrialResult] = []

    @contextmanager
    def observe(self, number: int, values: Mapping[str, Any]) -> Iterator[Observed]:
        self.values[number] = values
        yield Observed(self, number)

    @property
    def states(self) -> list[str]:
        return [result.state for result in self.results]

    @property
    def losses(self) -> list[float]:
        return [result.val_loss for result in self.results]


DATA: Any = object()


def tune_watched(recipe: Recipe, study: optuna.Study, trials: int, watch: Watch) -> tuning.Tuned:
    return tune(recipe, lambda: DATA, study, trials, watch.observe, watch.results.append)


def smooth(recipe: Recipe) -> list[float]:
    """Best at a learning rate of 0.01 and two layers; falling by epochs."""
    worse = abs(math.log10(recipe.training.learning_rate) + 2) / 10 + abs(recipe.model.num_layers - 2) / 10
    return [0.5 + worse + 0.1 / epoch for epoch in range(1, recipe.training.epochs + 1)]


def test_the_recipe_s_own_values_come_first(learn: Callable[[Curve], None], study: optuna.Study) -> None:
    learn(smooth)
    watch = Watch()
    best = tune_watched(SEARCHED, study, 1, watch)
    assert watch.values == {1: {RATE: 1e-4, "model.num_layers": 1}}
    assert best.recipe == SEARCHED
    assert (best.number, best.val_loss) == (1, pytest.approx(0.8 + 0.1 / 3))


def test_the_best_of_all_trials_is_found(learn: Callable[[Curve], None], study: optuna.Study) -> None:
    learn(smooth)
    watch = Watch()
    best = tune_watched(SEARCHED, study, 12, watch)
    assert [result.number for result in watch.results] == list(range(1, 13))
    assert watch.results == watch.observed
    complete = [result for result in watch.results if result.state == "COMPLETE"]
    first = min(complete, key=lambda result: result.val_loss)
    assert (best.val_loss, best.number) == (first.val_loss, first.number)
    assert best.val_loss < watch.losses[0]
    assert best.recipe == with_values(SEARCHED, first.values)
    assert smooth(best.recipe)[-1] == best.val_loss
    assert [result.best_loss for result in watch.results] == [
        min(other.val_loss for other in complete if other.number <= result.number) for result in watch.results
    ]
    assert len({result.values[RATE] for result in watch.results}) == 12


def test_the_data_is_made_once_and_only_if_a_trial_is_missing(
    learn: Callable[[Curve], None], study: optuna.Study
) -> None:
    learn(smooth)
    made = []

    def data_of() -> Any:
        made.append(DATA)
        return DATA

    for trials, expected in ((3, 3), (3, 3), (2, 3), (4, 4)):
        best = tune(SEARCHED, data_of, study, trials, lambda *_: nullcontext(TrialObserver()), lambda result: None)
        assert finished_trials(study) == expected
        assert best.val_loss == study.best_value
    assert len(made) == 2


def planned(curves: list[list[float]]) -> Curve:
    """The curves in order, whatever is tried."""
    left = iter(curves)
    return lambda recipe: next(left)


GOOD = [0.6, 0.5, 0.4]


def test_what_is_worse_than_the_median_is_given_up(learn: Callable[[Curve], None], study: optuna.Study) -> None:
    worse, bad_start, bad_end = [0.6, 0.55, 0.1], [0.9, 0.45, 0.4], [0.6, 0.5, 0.9]
    learn(planned([GOOD, GOOD, GOOD, worse, worse, bad_start, bad_end]))
    watch = Watch()
    tune_watched(SEARCHED, study, 7, watch)
    assert watch.states == ["COMPLETE"] * 4 + ["PRUNED"] + ["COMPLETE"] * 2
    assert watch.losses == [0.4, 0.4, 0.4, 0.1, 0.55, 0.4, 0.9]
    assert [epoch for number, epoch in watch.epochs if number == 5] == [1, 2]
    assert [trial.state for trial in study.trials].count(TrialState.PRUNED) == 1
    assert watch.results[4].best_loss == 0.1


def test_a_loss_that_is_no_number_ends_the_trial(learn: Callable[[Curve], None], study: optuna.Study) -> None:
    learn(planned([[0.5, math.nan, 0.1], [math.inf, 0.1, 0.1], GOOD]))
    watch = Watch()
    best = tune_watched(SEARCHED, study, 3, watch)
    assert watch.states == ["PRUNED", "PRUNED", "COMPLETE"]
    assert watch.epochs == [(1, 1), (1, 2), (2, 1), (3, 1), (3, 2), (3, 3)]
    assert [result.best_loss for result in watch.results] == [None, None, 0.4]
    assert best.number == 3


def test_without_a_complete_trial_there_is_no_best(learn: Callable[[Curve], None], study: optuna.Study) -> None:
    learn(lambda recipe: [math.nan])
    with pytest.raises(DataError, match="no trial is complete"):
        tune_watched(SEARCHED, study, 2, Watch())


@pytest.mark.parametrize(("patience", "loss"), [(None, 0.45), (1, 0.4)])
def test_the_loss_is_that_of_the_weights_in_the_end(
    learn: Callable[[Curve], None], study: optuna.Study, patience: int | None, loss: float
) -> None:
    learn(lambda recipe: [0.5, 0.4, 0.45])
    watch = Watch()
    best = tune_watched(recipe_of(SEARCHED.search, patience=patience), study, 1, watch)
    assert watch.losses == [loss]
    assert best.val_loss == loss


def trials_of(study: optuna.Study, recipe: Recipe) -> list[tuple[dict[str, Any], float | None, TrialState]]:
    """Values, loss and state of the finished trials, in order."""
    trials = [trial for trial in study.trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    return [(suggest(recipe.search, trial), trial.value, trial.state) for trial in trials]


def test_an_interrupted_tuning_ends_as_without_interruption(
    learn: Callable[[Curve], None], tmp_path: Path, study: optuna.Study
) -> None:
    learn(smooth)
    expected = tune_watched(SEARCHED, study, 13, Watch())
    path = tmp_path / "interrupted.db"
    for number, error in ((1, KeyboardInterrupt), (2, OSError), (12, KeyboardInterrupt)):

        def stop(trial: int, epoch: int, last: int = number, error: type[BaseException] = error) -> None:
            if (trial, epoch) == (last, 1):
                raise error

        stopped = Watch(stop)
        with pytest.raises(error):
            tune_watched(SEARCHED, open_study(path), 13, stopped)
        assert max(stopped.values) == number
    watch = Watch()
    assert tune_watched(SEARCHED, open_study(path), 13, watch) == expected
    assert watch.values[12] == stopped.values[12]
    assert list(watch.values) == [12, 13]
    resumed = open_study(path)
    assert trials_of(resumed, SEARCHED) == trials_of(study, SEARCHED)
    assert [trial.state for trial in resumed.trials].count(TrialState.FAIL) == 3
    assert not resumed.get_trials(states=[TrialState.RUNNING, TrialState.WAITING])


@pytest.mark.parametrize("asked", [False, True])
def test_a_process_that_was_killed_early_costs_nothing(
    learn: Callable[[Curve], None], study: optuna.Study, asked: bool
) -> None:
    learn(smooth)
    study.enqueue_trial({RATE: 1e-4, "model.num_layers": 1})
    if asked:
        study.ask()
    watch = Watch()
    tune_watched(SEARCHED, study, 2, watch)
    assert watch.values[1] == {RATE: 1e-4, "model.num_layers": 1}
    assert watch.values[2][RATE] != 1e-4


def test_a_space_without_the_recipe_s_own_values_is_refused(study: optuna.Study) -> None:
    with pytest.raises(DataError, match=r"search\.training\.learning_rate"):
        tune_watched(recipe_of({RATE: {"low": 1e-3, "high": 1e-2}}), study, 1, Watch())
    assert not study.trials


@pytest.fixture(scope="module")
def rows(small_interactions: pd.DataFrame, small_feature_map: FeatureMap) -> pd.DataFrame:
    return split_interactions(encode_interactions(small_interactions, small_feature_map))[0].head(4000)


@pytest.mark.slow
def test_the_better_of_two_learning_rates_is_found(
    rows: pd.DataFrame, small_feature_map: FeatureMap, small_movies: pd.DataFrame, study: optuna.Study
) -> None:
    recipe = recipe_of({RATE: {"choices": [1e-9, 3e-3]}}, learning_rate=1e-9, epochs=2)
    watch = Watch()
    data = TrainingData.of(recipe, rows, small_feature_map, small_movies)
    best = tune(recipe, lambda: data, study, 3, watch.observe, watch.results.append)
    assert {values[RATE] for values in watch.values.values()} == {1e-9, 3e-3}
    assert best.recipe.training.learning_rate == 3e-3
    assert best.val_loss == min(watch.losses)
    for result in watch.results:
        alike = [other.val_loss for other in watch.results if other.values == result.values]
        assert alike == pytest.approx([result.val_loss] * len(alike), abs=1e-5)
