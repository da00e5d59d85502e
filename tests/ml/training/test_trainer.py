from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from ml import schema
from ml.features.feature_map import FeatureMap
from ml.features.splits import split_interactions
from ml.models.autoint import Inputs, build_model
from ml.models.config import AutoIntMLPConfig
from ml.training import trainer
from ml.training.checkpoint import Checkpoint
from ml.training.config import TrainingConfig
from ml.training.early_stopping import best_epoch
from ml.training.reports import BatchReport, EpochReport
from ml.training.trainer import train
from tests.feature_maps import encode_interactions

TINY = {"embed_dim": 4, "num_layers": 1, "num_heads": 1, "head_dim": 4, "hidden_units": [8], "dropout": 0.4}
# Batches that divide 10,800 and 1,200 rows: the network is compiled for one shape only.
SETTINGS = TrainingConfig(epochs=2, batch_size=240, learning_rate=0.01, seed=3)
PATIENT = SETTINGS.model_copy(update={"epochs": 6, "patience": 2})
L2 = 0.02


@dataclass(frozen=True)
class Run:
    """A network after its training."""

    model: keras.Model
    reports: list[EpochReport]
    received: list[EpochReport]
    weights: list[list[np.ndarray]]  # after each epoch

    @property
    def train_losses(self) -> list[float]:
        return [report.train_loss for report in self.reports]

    @property
    def table(self) -> np.ndarray:
        return self.model.get_layer("embedding").get_weights()[0]


Fit = Callable[..., Run]


@pytest.fixture(scope="module")
def rows(small_interactions: pd.DataFrame, small_feature_map: FeatureMap) -> pd.DataFrame:
    return split_interactions(encode_interactions(small_interactions, small_feature_map))[0]


@pytest.fixture(scope="module")
def fit(rows: pd.DataFrame, small_feature_map: FeatureMap) -> Fit:
    """Train a new tiny AutoInt+MLP, always from the same weights."""

    def fit(
        table: pd.DataFrame = rows,
        settings: TrainingConfig = SETTINGS,
        on_batch: Callable[[BatchReport], None] = lambda report: None,
        **network: float,
    ) -> Run:
        config = AutoIntMLPConfig(**{**TINY, **network})
        model = build_model("autoint_mlp", Inputs(small_feature_map.field_dims), config, seed=1)
        received: list[EpochReport] = []
        weights: list[list[np.ndarray]] = []

        def on_epoch(report: EpochReport) -> None:
            received.append(report)
            weights.append(model.get_weights())

        return Run(model, train(model, table, settings, on_epoch, on_batch), received, weights)

    return fit


@pytest.fixture(scope="module")
def batches() -> list[BatchReport]:
    """What ``trained`` reports of every batch."""
    return []


@pytest.fixture(scope="module")
def trained(fit: Fit, batches: list[BatchReport]) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "SECONDS_BETWEEN_BATCH_REPORTS", 0)
        return fit(on_batch=batches.append)


@pytest.fixture(scope="module")
def rows_with_other_tail(rows: pd.DataFrame) -> pd.DataFrame:
    """The validation rows' labels are turned round, so that their loss is lowest after the first epoch."""
    table = rows.copy()
    table.loc[last_tenth(rows).index, "label"] ^= 1
    return table


@pytest.fixture(scope="module")
def stopped_early(fit: Fit, rows_with_other_tail: pd.DataFrame) -> Run:
    return fit(rows_with_other_tail, PATIENT)


@pytest.fixture
def network(small_feature_map: FeatureMap) -> Callable[[], keras.Model]:
    return lambda: build_model("autoint_mlp", Inputs(small_feature_map.field_dims), AutoIntMLPConfig(**TINY), seed=1)


def last_tenth(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.iloc[len(rows) - len(rows) // 10 :]


def cross_entropy(model: keras.Model, rows: pd.DataFrame) -> float:
    codes = np.column_stack([rows[name] for name in schema.FIELD_NAMES])
    probability = np.asarray(model(codes), dtype=np.float64)[:, 0]
    liked = rows["label"].to_numpy() == 1
    return float(-np.mean(np.log(np.where(liked, probability, 1 - probability))))


def test_one_report_an_epoch(trained: Run) -> None:
    assert trained.received == trained.reports
    assert [(report.epoch, report.epochs) for report in trained.reports] == [(1, 2), (2, 2)]
    for report in trained.reports:
        assert report.seconds > 0
        assert report.rows_per_second * report.seconds == pytest.approx(10_800)


def test_validation_loss_is_that_of_the_last_rows_without_dropout(trained: Run, rows: pd.DataFrame) -> None:
    reported = trained.reports[-1].val_loss
    assert reported == pytest.approx(cross_entropy(trained.model, last_tenth(rows)), abs=1e-5)
    assert reported != pytest.approx(cross_entropy(trained.model, rows), abs=1e-3)


def test_learns(trained: Run, rows: pd.DataFrame) -> None:
    mean = rows["label"].mean()
    constant = -(mean * np.log(mean) + (1 - mean) * np.log(1 - mean))
    assert trained.train_losses[1] < trained.train_losses[0]
    assert cross_entropy(trained.model, rows) < constant - 0.02
    assert trained.reports[-1].val_loss < constant - 0.01


def test_seed_repeats_the_run_and_validation_rows_are_never_learned(trained: Run, stopped_early: Run) -> None:
    assert stopped_early.train_losses[:2] == trained.train_losses
    assert_equal_weights(stopped_early.weights[1], trained.model.get_weights())
    assert stopped_early.reports[1].val_loss > trained.reports[1].val_loss + 0.1  # it sees the validation labels


def test_another_seed_trains_another_way(trained: Run, fit: Fit) -> None:
    other = fit(settings=SETTINGS.model_copy(update={"seed": 4, "epochs": 1}))
    assert other.train_losses[0] != pytest.approx(trained.train_losses[0], abs=1e-6)
    assert not any(np.allclose(*pair, atol=1e-4) for pair in zip(other.weights[0], trained.weights[0], strict=True))


def test_embedding_penalty(trained: Run, fit: Fit, rows: pd.DataFrame) -> None:
    run = fit(l2_embedding=L2)
    penalty = L2 * float(np.sum(run.table.astype(np.float64) ** 2))
    reported = run.reports[-1]
    assert penalty > 0.01
    assert reported.val_loss == pytest.approx(cross_entropy(run.model, last_tenth(rows)) + penalty, abs=1e-5)
    # The table only shrinks, so that every step of the epoch paid at least the penalty of its end.
    assert reported.train_loss > cross_entropy(run.model, rows) + penalty
    assert np.sum(run.table**2) < 0.5 * np.sum(trained.table**2)


def stop_after_first(report: EpochReport) -> None:
    if report.epoch == 1:
        raise KeyboardInterrupt


class TestResuming:
    """Two epochs, interrupted after the first, with dropout."""

    def test_ends_as_without_interruption(
        self, trained: Run, network: Callable[[], keras.Model], rows: pd.DataFrame, tmp_path: Path
    ) -> None:
        with pytest.raises(KeyboardInterrupt):
            train(network(), rows, SETTINGS, stop_after_first, checkpoint=Checkpoint(tmp_path))
        model, received = network(), []
        reports = train(model, rows, SETTINGS, received.append, checkpoint=Checkpoint(tmp_path))
        assert_equal_weights(model.get_weights(), trained.model.get_weights())
        assert losses(reports) == losses(trained.reports)
        assert received == reports
        # A finished training is not repeated; without patience, no best weights are saved.
        again = network()
        assert train(again, rows, SETTINGS, checkpoint=Checkpoint(tmp_path)) == reports
        assert_equal_weights(again.get_weights(), model.get_weights())
        assert Checkpoint(tmp_path).restore(again) == (reports, [])


class TestEarlyStopping:
    """Six epochs with a patience of two, on rows that make the first the best."""

    def test_stops_with_the_best_weights(self, stopped_early: Run, rows_with_other_tail: pd.DataFrame) -> None:
        first, second, third = (report.val_loss for report in stopped_early.reports)
        assert first < second < third
        assert stopped_early.received == stopped_early.reports
        assert best_epoch(stopped_early.reports, PATIENT) == 1
        reached = cross_entropy(stopped_early.model, last_tenth(rows_with_other_tail))
        assert reached == pytest.approx(first, abs=1e-5)
        assert_equal_weights(stopped_early.model.get_weights(), stopped_early.weights[0])

    @pytest.mark.slow
    def test_all_epochs_end_with_the_best_weights_too(
        self, stopped_early: Run, fit: Fit, rows_with_other_tail: pd.DataFrame
    ) -> None:
        run = fit(rows_with_other_tail, PATIENT.model_copy(update={"epochs": 2}))
        assert len(run.reports) == 2
        assert_equal_weights(run.model.get_weights(), stopped_early.model.get_weights())

    @pytest.mark.slow
    def test_goes_on_while_the_loss_falls(self, trained: Run, fit: Fit) -> None:
        run = fit(settings=SETTINGS.model_copy(update={"patience": 1}))
        assert run.reports[1].val_loss < run.reports[0].val_loss
        assert_equal_weights(run.model.get_weights(), trained.model.get_weights())

    @pytest.mark.parametrize(
        "interrupted_after", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
    )
    def test_ends_as_without_interruption(
        self,
        interrupted_after: int,
        stopped_early: Run,
        network: Callable[[], keras.Model],
        rows_with_other_tail: pd.DataFrame,
        tmp_path: Path,
    ) -> None:
        def interrupt(report: EpochReport) -> None:
            if report.epoch == interrupted_after:
                raise RuntimeError("enough")

        with pytest.raises(RuntimeError, match="enough"):
            train(network(), rows_with_other_tail, PATIENT, interrupt, checkpoint=Checkpoint(tmp_path))
        for _ in range(2):  # the second time, training had stopped
            resumed = network()
            reports = train(resumed, rows_with_other_tail, PATIENT, checkpoint=Checkpoint(tmp_path))
            assert losses(reports) == losses(stopped_early.reports)
            assert_equal_weights(resumed.get_weights(), stopped_early.model.get_weights())


def losses(reports: list[EpochReport]) -> list[tuple[int, float, float]]:
    return [(report.epoch, report.train_loss, report.val_loss) for report in reports]


def assert_equal_weights(weights: list[np.ndarray], others: list[np.ndarray]) -> None:
    for weight, other in zip(weights, others, strict=True):
        np.testing.assert_array_equal(weight, other)


def test_reports_batches(trained: Run, batches: list[BatchReport]) -> None:
    assert [(r.epoch, r.batch, r.batches, r.epochs) for r in batches] == [
        (epoch, batch, 45, 2) for epoch in (1, 2) for batch in (8, 16, 24, 32, 40, 45)
    ]
    assert batches[5].loss == pytest.approx(trained.train_losses[0], rel=1e-5)
    assert all(r.rows_per_second > 0 for r in batches)
    assert batches[-1].seconds_left == 0
    assert batches[5].seconds_left * batches[5].rows_per_second == pytest.approx(10_800)


class TestConfig:
    def test_defaults_are_the_reference(self) -> None:
        config = TrainingConfig()
        assert (config.epochs, config.batch_size, config.learning_rate) == (5, 2048, 1e-4)
        assert config.validation_share == 0.1
        assert config.patience is None

    @pytest.mark.parametrize(
        "settings",
        [
            {"epoch": 3},
            {"epochs": 0},
            {"batch_size": 0},
            {"learning_rate": 0},
            {"validation_share": 0},
            {"validation_share": 1},
            {"seed": -1},
            {"patience": 0},
        ],
    )
    def test_refuses_unknown_keys_and_bad_values(self, settings: dict[str, float]) -> None:
        with pytest.raises(ValidationError, match=next(iter(settings))):
            TrainingConfig(**settings)

    def test_frozen(self) -> None:
        config = TrainingConfig()
        with pytest.raises(ValidationError, match="frozen"):
            config.epochs = 1
        assert config.epochs == 5
