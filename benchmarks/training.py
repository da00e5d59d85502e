"""Measure the cost of training, on the tables of ``make run``: ``make bench-training``.

Compares the interacting layer with one written head by head, as the model is usually described, with everything else
equal: rows per CPU second and per wall-clock second, alternating on the same rows; then both loss curves of a whole
training. Writes ``bench/training.json`` in the home.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pandas as pd
from keras import ops

from benchmarks.common import Timing, published_dataset, read_document, read_table, say, write_json
from ml import schema
from ml.features.feature_map import FeatureMap
from ml.models.autoint import Inputs, build_model
from ml.models.config import ARCHITECTURES
from ml.models.layers import InteractingLayer
from ml.training.config import TrainingConfig
from ml.training.trainer import train

_BATCHES = 50
_REPEATS = 5


class LayerByLayer(InteractingLayer):
    """The interacting layer head by head: project, split, attend, concatenate."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """See ``InteractingLayer``."""
        projections = [ops.matmul(inputs, kernel) for kernel in (self.query_kernel, self.key_kernel, self.value_kernel)]
        query, key, value = (ops.stack(ops.split(each, self.num_heads, axis=2)) for each in projections)
        weights = ops.softmax(ops.matmul(query, ops.transpose(key, (0, 1, 3, 2))), axis=-1)
        heads = ops.matmul(weights, value)  # [heads, batch, fields, head_dim]
        output = ops.concatenate(ops.unstack(heads, axis=0), axis=-1)
        return ops.relu(output + ops.matmul(inputs, self.residual_kernel))


def baseline_of(network: keras.Model) -> keras.Model:
    """Return the same network with the same weights, with interacting layers written head by head."""

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        kind = LayerByLayer if isinstance(layer, InteractingLayer) else type(layer)
        return kind.from_config(layer.get_config())

    baseline = keras.models.clone_model(network, clone_function=copy)
    baseline.set_weights(network.get_weights())
    return baseline


def fit_plainly(network: keras.Model, rows: pd.DataFrame, config: TrainingConfig) -> list[float]:
    """Train with plain Keras ``fit`` and return the validation losses."""
    keras.utils.set_random_seed(config.seed)
    codes, labels = arrays(rows)
    fitted = int(len(codes) * (1 - config.validation_share))
    network.compile(optimizer=keras.optimizers.Adam(config.learning_rate), loss="binary_crossentropy")
    history = network.fit(
        codes[:fitted],
        labels[:fitted],
        validation_data=(codes[fitted:], labels[fitted:]),
        epochs=config.epochs,
        batch_size=config.batch_size,
        verbose=0,
    )
    return [float(loss) for loss in history.history["val_loss"]]


def arrays(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return indices int32 [rows, features] and labels float32 [rows]."""
    return rows[list(schema.FIELD_NAMES)].to_numpy("int32"), rows[schema.LABEL].to_numpy("float32")


def time_in_turns(paths: dict[str, keras.Model], rows: pd.DataFrame, config: TrainingConfig) -> dict[str, Timing]:
    """Return the median times of training one epoch on some rows."""
    codes, labels = arrays(rows.iloc[: _BATCHES * config.batch_size])
    for network in paths.values():
        network.compile(optimizer=keras.optimizers.Adam(config.learning_rate), loss="binary_crossentropy")
        network.fit(codes[: config.batch_size], labels[: config.batch_size], batch_size=config.batch_size, verbose=0)
    seconds: dict[str, list[Timing]] = {name: [] for name in paths}
    for _ in range(_REPEATS):
        for name, network in paths.items():
            wall, cpu = time.perf_counter(), time.process_time()
            network.fit(codes, labels, batch_size=config.batch_size, verbose=0)
            seconds[name].append(Timing(time.perf_counter() - wall, time.process_time() - cpu, len(codes)))
    return {name: Timing.median(timings) for name, timings in seconds.items()}


def bench(
    name: str, builder: Callable[[], keras.Model], rows: pd.DataFrame, config: TrainingConfig
) -> dict[str, float]:
    """Measure the speed and loss curves of one model."""
    timings = time_in_turns({"plain": baseline_of(builder()), "ours": builder()}, rows, config)
    plain_curve = fit_plainly(baseline_of(builder()), rows, config)
    reports = train(builder(), rows, config)
    curve = [report.val_loss for report in reports]
    gap = float(np.abs(np.subtract(curve, plain_curve)).max())
    epochs = range(1, config.epochs + 1)
    say(
        f"{name}: validation loss by epoch",
        [
            {"epoch": epoch, "plain": plain, "ours": ours, "seconds": report.seconds}
            for epoch, plain, ours, report in zip(epochs, plain_curve, curve, reports, strict=True)
        ],
        digits=5,
    )
    plain, ours = timings["plain"], timings["ours"]
    return {
        "speedup_cpu": plain.cpu / ours.cpu,
        "speedup_wall": plain.wall / ours.wall,
        "rows_per_cpu_second": ours.rows / ours.cpu,
        "rows_per_second": ours.rows / ours.wall,
        "largest_curve_gap": gap,
    }


def device() -> str:
    """Return the device that Keras uses."""
    if keras.config.backend() == "torch":
        import torch

        return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "cpu"
    return next(iter(keras.distribution.list_devices("gpu")), "cpu")


def main() -> int:
    """Run the benchmark on one data set (default: the first published one) and return the exit status."""
    home, dataset = published_dataset(sys.argv[1:])
    rows = read_table(dataset, "train_interactions")
    field_dims = FeatureMap.from_dict(read_document(dataset, "feature_map")).field_dims
    config = TrainingConfig()
    results = {}
    for name, settings in ARCHITECTURES.items():

        def builder(name: str = name, settings: Any = settings) -> keras.Model:
            return build_model(name, Inputs(field_dims), settings(), config.seed)

        results[name] = bench(name, builder, rows, config)
    say(f"Training on {dataset}", [{"model": name, **result} for name, result in results.items()])
    found = {"backend": keras.config.backend(), "device": device(), "models": results}
    write_json(home / "bench" / "training.json", found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
