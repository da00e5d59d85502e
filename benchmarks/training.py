"""Measure the cost of training, on the tables of ``make run``: ``make bench-training``.

Compares the compiled training steps with Keras's own ones, everything else being equal: rows per second of one
processor, alternating on the same rows; then both loss curves of a whole training. For comparison, AutoInt is also
trained by eager PyTorch, if it is installed (``pip install -e '.[bench]'``). Writes ``bench/training.json`` in the
home.
"""

import importlib.util
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

import keras
import numpy as np

from benchmarks.common import published_dataset, read_document, read_table, say, write_json
from ml import schema
from ml.features.feature_map import FeatureMap
from ml.models.autoint import build_model
from ml.processors import available_processors
from ml.training.data import TrainingData
from ml.training.recipes import PAPER, Recipe
from ml.training.threads import share_processors
from ml.training.trainer import learner_of, train
from orchestration.config.recipes_in_force import recipes_in_force

if TYPE_CHECKING:
    from ml.models.config import AutoIntConfig

_BATCHES = 112  # as an epoch is long, Keras's work at its beginning must not count much
_REPEATS = 7
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


def rates(runs: Sequence[Callable[[], object]], rows: int) -> list[float]:
    """Return how many rows each function processes in one second of processor time: the medians, taken in turns."""
    seconds: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()  # compiles
    for _ in range(_REPEATS):
        for run, own in zip(runs, seconds, strict=True):
            begin = time.process_time()
            run()
            own.append(time.process_time() - begin)
    return [rows / statistics.median(own) for own in seconds]


def peers(bench: Bench) -> dict[str, float]:
    """Return rows per CPU second of other implementations of AutoInt, trained on the same rows."""
    if importlib.util.find_spec("torch") is None:
        sys.stdout.write("\nPyTorch is not installed, so that there is no peer: pip install -e '.[bench]'\n")
        return {}
    from benchmarks.torch_autoint import epoch_of

    codes, labels = bench.batches()
    offsets = bench.network().get_layer("embedding").offsets
    training = bench.recipe.training
    model = cast("AutoIntConfig", bench.recipe.model)
    run = epoch_of(codes + offsets, labels, model, training.batch_size, training.learning_rate)
    return {"pytorch_eager": rates([run], len(codes))[0]}


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
        bench = Bench(recipe, TrainingData.of(recipe, rows, feature_map, movies))
        results[name] = bench.measure()
        if name == _PEER:
            others = peers(bench)
    say(f"Training on {dataset}", [{"model": name, **result} for name, result in results.items()], digits=5)
    found = {"backend": keras.config.backend(), "device": device(), "models": results, "peers": others}
    write_json(home / "bench" / "training.json", found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
