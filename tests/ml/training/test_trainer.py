from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from ml import schema
from ml.features.feature_map import FeatureMap, encode_interactions
from ml.features.splits import split_interactions
from ml.models.autoint import build_model
from ml.models.config import AutoIntMLPConfig
from ml.training.config import TrainingConfig
from ml.training.trainer import EpochReport, train

TINY = {"embed_dim": 4, "num_layers": 1, "num_heads": 1, "head_dim": 4, "hidden_units": [8], "dropout": 0.4}
SETTINGS = TrainingConfig(epochs=2, batch_size=256, learning_rate=0.01, seed=3)
HELD_OUT = 0.1
L2 = 0.02


@dataclass(frozen=True)
class Run:
    """A network after its training."""

    model: keras.Model
    reports: list[EpochReport]

    @property
    def losses(self) -> list[tuple[float, float]]:
        return [(report.train_loss, report.val_loss) for report in self.reports]

    @property
    def table(self) -> np.ndarray:
        return self.model.get_layer("embedding").get_weights()[0]


Fit = Callable[..., Run]


@pytest.fixture(scope="module")
def rows(small_interactions: pd.DataFrame, small_feature_map: FeatureMap) -> pd.DataFrame:
    return split_interactions(encode_interactions(small_interactions, small_feature_map))[0]


@pytest.fixture(scope="module")
def fit(rows: pd.DataFrame, small_feature_map: FeatureMap) -> Fit:
    """Train a new tiny AutoInt+MLP."""

    def fit(table: pd.DataFrame = rows, settings: TrainingConfig = SETTINGS, **network: float) -> Run:
        config = AutoIntMLPConfig(**{**TINY, **network})
        model = build_model("autoint_mlp", small_feature_map.field_dims, config, settings.seed)
        return Run(model, train(model, table, settings))

    return fit


@pytest.fixture(scope="module")
def trained(fit: Fit) -> Run:
    return fit()


def tail(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.iloc[int(len(rows) * (1 - HELD_OUT)) :]


def cross_entropy(model: keras.Model, rows: pd.DataFrame) -> float:
    codes = np.column_stack([rows[name] for name in schema.FIELD_NAMES])
    probability = model.predict(codes, batch_size=4096, verbose=0)[:, 0].astype(np.float64)
    liked = rows["label"].to_numpy() == 1
    return float(-np.mean(np.log(np.where(liked, probability, 1 - probability))))


def assert_equal_weights(first: Run, second: Run) -> None:
    for weight, other in zip(first.model.get_weights(), second.model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)


def test_one_report_an_epoch(rows: pd.DataFrame, small_feature_map: FeatureMap) -> None:
    model = build_model("autoint", small_feature_map.field_dims, AutoIntMLPConfig(**TINY), seed=1)
    received: list[EpochReport] = []
    settings = TrainingConfig(epochs=3, batch_size=512)
    reports = train(model, rows.head(1000), settings, received.append)
    assert received == reports
    assert [(report.epoch, report.epochs) for report in reports] == [(1, 3), (2, 3), (3, 3)]
    for report in reports:
        assert report.seconds > 0
        assert report.rows_per_second * report.seconds == pytest.approx(900)


def test_validation_loss_is_that_of_the_last_rows_without_dropout(trained: Run, rows: pd.DataFrame) -> None:
    assert len(tail(rows)) == 1200
    reported = trained.reports[-1].val_loss
    assert reported == pytest.approx(cross_entropy(trained.model, tail(rows)), abs=1e-5)
    assert reported != pytest.approx(cross_entropy(trained.model, rows), abs=1e-3)


def test_learns(trained: Run, rows: pd.DataFrame) -> None:
    mean = rows["label"].mean()
    constant = -(mean * np.log(mean) + (1 - mean) * np.log(1 - mean))
    assert trained.reports[-1].train_loss < trained.reports[0].train_loss
    assert cross_entropy(trained.model, rows) < constant - 0.02
    assert trained.reports[-1].val_loss < constant - 0.01


def test_same_seed_repeats_the_run(trained: Run, fit: Fit) -> None:
    again = fit()
    assert again.losses == trained.losses
    assert_equal_weights(again, trained)


def test_seed_of_the_settings_orders_the_rows(rows: pd.DataFrame, small_feature_map: FeatureMap) -> None:
    tables = []
    for seed in (1, 2):
        model = build_model("autoint", small_feature_map.field_dims, AutoIntMLPConfig(**TINY), seed=1)
        train(model, rows.head(1000), TrainingConfig(epochs=1, batch_size=256, learning_rate=0.01, seed=seed))
        tables.append(model.get_weights()[0])
    assert np.abs(tables[0] - tables[1]).max() > 1e-5


def test_validation_rows_are_never_learned(trained: Run, fit: Fit, rows: pd.DataFrame) -> None:
    table = rows.copy()
    table.loc[tail(rows).index, "label"] ^= 1
    other = fit(table)
    assert_equal_weights(other, trained)
    assert [report.train_loss for report in other.reports] == [report.train_loss for report in trained.reports]
    assert other.reports[-1].val_loss > trained.reports[-1].val_loss + 0.1


def test_training_rows_decide_the_weights(trained: Run, fit: Fit, rows: pd.DataFrame) -> None:
    table = rows.copy()
    last_fitted = tail(rows).index[0] - 1
    table.loc[last_fitted, "label"] ^= 1
    assert np.abs(fit(table).table - trained.table).max() > 0


def test_embedding_penalty(trained: Run, fit: Fit, rows: pd.DataFrame) -> None:
    run = fit(l2_embedding=L2)
    penalty = L2 * float(np.sum(run.table.astype(np.float64) ** 2))
    reported = run.reports[-1]
    assert penalty > 0.01
    assert reported.val_loss == pytest.approx(cross_entropy(run.model, tail(rows)) + penalty, abs=1e-5)
    # The table only shrinks, so that every step of the epoch paid at least the penalty of its end.
    assert reported.train_loss > cross_entropy(run.model, rows) + penalty
    assert np.sum(run.table**2) < 0.5 * np.sum(trained.table**2)


class TestConfig:
    def test_defaults_are_the_reference(self) -> None:
        config = TrainingConfig()
        assert (config.epochs, config.batch_size, config.learning_rate) == (5, 2048, 1e-4)
        assert config.validation_share == HELD_OUT

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
