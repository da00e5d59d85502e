"""Measure the cost of training, on the tables of ``make run``: ``make bench-training``.

Compares the compiled training steps with Keras's own ones, everything else being equal: rows per second of one
processor, alternating on the same rows; then both loss curves of a whole training. For comparison, AutoInt is also
trained by PyTorch, eager and compiled, if it is installed (``pip install -e '.[bench]'``). Writes
``bench/training.json`` in the home.
"""

import importlib.util
import io
import json
import subprocess
import sys
from functools import partial
from typing import TYPE_CHECKING

import keras
import numpy as np

from benchmarks.common import collaborative_folds, published_dataset, rates, read_document, read_table, say, write_json
from ml import schema
from ml.features.feature_map import FeatureMap
from ml.models.autoint import build_model
from ml.processors import available_processors
from ml.training.compiled_network import obstacle
from ml.training.data import TrainingData
from ml.training.recipes import PAPER, Recipe
from ml.training.threads import share_processors
from ml.training.trainer import learner_of, train
from orchestration.config.recipes_in_force import recipes_in_force

if TYPE_CHECKING:
    pass

_BATCHES = 112  # as an epoch is long, Keras's work at its beginning must not count much
_PEER = "autoint"  # the recipe that peers train


class Bench:
    """The benchmark of one recipe.

    Args:
        recipe: what is trained.
        data: its training data.
    """

    def __init__(self, recipe: Recipe, data: TrainingData) -> None:
        self.recipe, self._data = recipe, data
        self._codes = data.rows.loc[:, : schema.LABEL].iloc[:, :-1].to_numpy("int32")  # [rows, features]
        self._labels = data.rows[schema.LABEL].to_numpy("float32")  # [rows]

    def measure(self) -> dict[str, float]:
        """Measure speed and loss curves."""
        plain, compiled = self._speeds()
        plain_curve, curve = self._curve(compiled=False), self._curve(compiled=True)
        say(
            f"{self.recipe.architecture}: validation loss by epoch",
            [
                {"epoch": epoch, "plain": one, "compiled": other}
                for epoch, (one, other) in enumerate(zip(plain_curve, curve, strict=True), start=1)
            ],
            digits=5,
        )
        return {
            "speedup_cpu": compiled / plain,
            "rows_per_cpu_second": compiled,
            "largest_curve_gap": float(np.abs(np.subtract(plain_curve, curve)).max()),
        }

    def network(self) -> keras.Model:
        """The network with its first weights."""
        return build_model(self.recipe.architecture, self._data.inputs, self.recipe.model, self.recipe.training.seed)

    def batches(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices int32 [rows, features] and labels float32 [rows] of the rows that speed is measured on."""
        rows = _BATCHES * self.recipe.training.batch_size
        return self._codes[:rows], self._labels[:rows]

    def _speeds(self) -> tuple[float, float]:
        """Return the median rows per CPU second of Keras's steps and of the compiled ones."""
        codes, labels = self.batches()
        numbers = self._data.numbers
        inputs = codes if numbers is None else (codes, numbers[: len(codes)])
        training = self.recipe.training
        learners = [learner_of(self.network(), training.learning_rate, compiled) for compiled in (False, True)]
        plain, compiled = rates(
            [partial(each.fit, inputs, labels, batch_size=training.batch_size, verbose=0) for each in learners],
            len(codes),
        )
        return plain, compiled

    def _curve(self, compiled: bool) -> list[float]:
        reports = train(
            self.network(), self._data.rows, self.recipe.training, numbers=self._data.numbers, compiled=compiled
        )
        return [report.val_loss for report in reports]


def peers(bench: Bench) -> dict[str, float]:
    """Return rows per CPU second of other implementations of AutoInt, trained on the same rows."""
    if importlib.util.find_spec("torch") is None:
        sys.stdout.write("\nPyTorch is not installed, so that there is no peer: pip install -e '.[bench]'\n")
        return {}
    codes, labels = bench.batches()
    rows = codes + bench.network().get_layer("embedding").offsets
    arrays, training = io.BytesIO(), bench.recipe.training
    np.savez(arrays, rows=rows, labels=labels)
    settings = json.dumps({"batch_size": training.batch_size, "learning_rate": training.learning_rate})
    # In a process of its own: PyTorch does not compute beside TensorFlow in every version.
    command = [
        sys.executable,
        "-m",
        "benchmarks.torch_autoint",
        bench.recipe.model.model_dump_json(),
        settings,
    ]
    done = subprocess.run(command, input=arrays.getvalue(), stdout=subprocess.PIPE, check=True)  # noqa: S603
    return {name: float(rate) for name, rate in json.loads(done.stdout).items()}


def device() -> str:
    """Return the device that Keras uses."""
    if keras.config.backend() == "torch":
        import torch

        return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "cpu"
    return next(iter(keras.distribution.list_devices("gpu")), "cpu")


def main() -> int:
    """Run the benchmark on one data set (default: the first published one) and return the exit status.

    Further arguments name recipes; default: all.
    """
    home, dataset = published_dataset(sys.argv[1:2])
    share_processors(available_processors())  # one thread for each training
    rows, movies = read_table(dataset, "train_interactions"), read_table(dataset, "movies")
    feature_map = FeatureMap.from_dict(read_document(dataset, "feature_map"))
    results: dict[str, dict[str, float]] = {}
    others: dict[str, float] = {}
    for name, recipe in recipes_in_force().items():
        if recipe.protocol == PAPER or recipe.learns_order or (sys.argv[2:] and name not in sys.argv[2:]):
            continue
        folds = collaborative_folds(dataset) if recipe.signals else None
        bench = Bench(recipe, TrainingData.of(recipe, rows, feature_map, movies, folds))
        if reason := obstacle(bench.network()):
            sys.stdout.write(f"\n{name} has no compiled steps: {reason}\n")
            continue
        results[name] = bench.measure()
        if name == _PEER:
            others = peers(bench)
    say(f"Training on {dataset}", [{"model": name, **result} for name, result in results.items()], digits=5)
    found = {"backend": keras.config.backend(), "device": device(), "models": results, "peers": others}
    write_json(home / "bench" / "training.json", found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
