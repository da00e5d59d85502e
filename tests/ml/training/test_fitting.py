from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest

from ml import schema
from ml.features.feature_map import FeatureMap, encode_interactions
from ml.features.signals import fit_signals, out_of_fold_signals
from ml.features.splits import split_interactions
from ml.training.config import TrainingConfig
from ml.training.fitting import Fitting
from ml.training.recipes import Recipe
from ml.training.trainer import ReshuffledBatches

TRAINING = {"epochs": 2, "batch_size": 256, "learning_rate": 3e-3, "schedule": "cosine", "reshuffle": True, "seed": 1}


@pytest.fixture(scope="module")
def rows(small_interactions: pd.DataFrame, small_feature_map: FeatureMap) -> pd.DataFrame:
    return split_interactions(encode_interactions(small_interactions, small_feature_map))[0]


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe(
        description="For tests.",
        architecture="autoint",
        fields=("movie_year", "gender", "genre1"),
        signals={"factorizations": {"rating_3": {"factors": 3, "iterations": 3}}, "folds": 3},
        model={"embed_dim": 4, "num_layers": 1, "head_dim": 4},
        training=TRAINING,
    )  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def fit(rows: pd.DataFrame, small_feature_map: FeatureMap) -> Callable[[Recipe], Fitting]:
    def fit(recipe: Recipe) -> Fitting:
        fitting = Fitting(recipe, rows, small_feature_map.field_dims)
        fitting.run(lambda report: None, lambda report: None)
        return fitting

    return fit


@pytest.fixture(scope="module")
def fitted(fit: Callable[[Recipe], Fitting], recipe: Recipe) -> Fitting:
    return fit(recipe)


def weights(network: keras.Model) -> list[np.ndarray]:
    return [np.asarray(weight) for weight in network.weights]


def test_serving_network_computes_the_signals_of_all_training_rows(
    fitted: Fitting, recipe: Recipe, rows: pd.DataFrame, small_feature_map: FeatureMap
) -> None:
    users, movies, *_ = small_feature_map.field_dims
    assert recipe.signals is not None
    signals = fit_signals(rows, users, movies, recipe.signals).of(rows[:100])
    codes = rows[list(schema.FIELD_NAMES)].to_numpy("int32")[:100]
    expected = np.asarray(fitted.network([codes, signals]))
    assert np.asarray(fitted.serving_network(codes)) == pytest.approx(expected, abs=1e-5)


def test_signals_are_standardised_by_the_fitted_rows(
    fitted: Fitting, recipe: Recipe, rows: pd.DataFrame, small_feature_map: FeatureMap
) -> None:
    users, movies, *_ = small_feature_map.field_dims
    assert recipe.signals is not None
    signals = out_of_fold_signals(rows, users, movies, recipe.signals)[: int(len(rows) * 0.9)].astype(np.float64)
    layer = fitted.network.get_layer("numbers")
    assert layer.centres == pytest.approx(signals.mean(axis=0))
    assert layer.scales == pytest.approx(signals.std(axis=0))


def test_only_the_recipe_s_fields_are_embedded(fitted: Fitting, small_feature_map: FeatureMap) -> None:
    sizes = dict(zip(small_feature_map.names, small_feature_map.field_dims, strict=True))
    embedding = fitted.network.get_layer("embedding")
    assert embedding.field_dims == (sizes["movie_year"], sizes["gender"], sizes["genre1"])


def test_the_seed_repeats_the_training(fit: Callable[[Recipe], Fitting], fitted: Fitting, recipe: Recipe) -> None:
    again = fit(recipe)
    for first, second in zip(weights(fitted.network), weights(again.network), strict=True):
        assert first.tolist() == second.tolist()


@pytest.mark.parametrize("change", [{"seed": 2}, {"schedule": "constant"}, {"reshuffle": False}])
def test_every_training_setting_matters(
    fit: Callable[[Recipe], Fitting], fitted: Fitting, recipe: Recipe, change: dict[str, Any]
) -> None:
    other = fit(recipe.model_copy(update={"training": TrainingConfig(**{**TRAINING, **change})}))
    pairs = zip(weights(fitted.network), weights(other.network), strict=True)
    assert any(not np.allclose(first, second) for first, second in pairs)


def test_an_interrupted_training_ends_as_without_interruption(
    fitted: Fitting, recipe: Recipe, rows: pd.DataFrame, small_feature_map: FeatureMap, tmp_path: Any
) -> None:
    def stop(report: object) -> None:
        raise KeyboardInterrupt

    first = Fitting(recipe, rows, small_feature_map.field_dims)
    with pytest.raises(KeyboardInterrupt):
        first.run(stop, lambda report: None, first.backup(tmp_path))
    second = Fitting(recipe, rows, small_feature_map.field_dims)
    reports = second.run(lambda report: None, lambda report: None, second.backup(tmp_path))
    assert [report.epoch for report in reports] == [1, 2]
    for ours, expected in zip(weights(second.network), weights(fitted.network), strict=True):
        assert ours.tolist() == expected.tolist()


def test_batches_hold_every_row_once_in_an_order_of_each_epoch() -> None:
    config = TrainingConfig(batch_size=4, seed=3)
    codes, labels = np.arange(20).reshape(10, 2), np.arange(10)

    def orders(epoch: int, count: int) -> list[list[int]]:
        batches = ReshuffledBatches([codes], labels, config, epoch)
        found = []
        for _ in range(count):
            batches.on_epoch_begin()
            parts = [batches[index] for index in range(len(batches))]
            assert [len(part[1]) for part in parts] == [4, 4, 2]
            assert all((part[0][:, 0] == 2 * part[1]).all() for part in parts)
            found.append(np.concatenate([part[1] for part in parts]).tolist())
        return found

    first, second, third = orders(0, 3)
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second != third
    assert orders(1, 2) == [second, third]


def test_keras_sees_another_order_in_every_epoch() -> None:
    seen: list[int] = []

    class Recording(keras.layers.Layer):
        def call(self, inputs: Any) -> Any:
            seen.extend(np.asarray(inputs)[:, 0].astype(int).tolist())
            return inputs

    model = keras.Sequential([keras.Input((1,)), Recording(), keras.layers.Dense(1)])
    model.compile(loss="mse", run_eagerly=True)
    seen.clear()
    batches = ReshuffledBatches([np.arange(6.0)[:, None]], np.zeros(6), TrainingConfig(batch_size=2, seed=1))
    model.fit(batches, epochs=3, shuffle=False, verbose=0)
    expected = [np.random.default_rng([1, epoch]).permutation(6).tolist() for epoch in range(3)]
    assert [seen[:6], seen[6:12], seen[12:18]] == expected
