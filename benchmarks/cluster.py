"""Measure the heavy steps on a Ray cluster of this machine: ``make bench-cluster``, on the results of ``make run``.

The same work is done here and by one and by two workers of one CPU each: lists for evaluation and scores of test rows
by the first published network with collaborative features, these features, and an epoch of training. Writes
``bench/cluster.json`` in the home.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import ray
from ray.cluster_utils import Cluster
from upath import UPath

from benchmarks.common import collaborative_folds, published_dataset, read_document, read_table, say, write_json
from ml.features.collaborative_folds import CollaborativeFolds
from ml.features.feature_map import FeatureMap
from ml.features.sides import Sides
from ml.inference.held_out import held_out_lists
from ml.inference.scored import score_rows
from ml.inference.scorer import Scorer
from ml.inference.shards import Means
from ml.models.bundle import ModelBundle
from ml.processors import Each
from ml.published.champions import published_versions
from ml.training.data import TrainingData
from ml.training.fitting import Fitting
from ml.training.threads import share_processors
from orchestration.compute.ray_engine import RayEngine
from orchestration.config.recipes_in_force import recipes_in_force

_WORKERS = (1, 2)
_TOLERANCE = 1e-4  # of a validation loss; gradients are added in another order


class Bench:
    """The work, with what it was computed from.

    Args:
        dataset: a published data set.
        model: a recipe with collaborative features.
        bundle: its champion.
    """

    def __init__(self, dataset: str, model: str, bundle: ModelBundle) -> None:
        own = recipes_in_force()[model]
        self._recipe = own.model_copy(update={"training": own.training.model_copy(update={"epochs": 1})})
        self._train, self._test = (read_table(dataset, f"{part}_interactions") for part in ("train", "test"))
        self._bundle, self._encoders = bundle, FeatureMap.from_dict(read_document(dataset, "feature_map"))
        users, self._movies = read_table(dataset, "users"), read_table(dataset, "movies")
        self._sides = Sides.of(self._encoders, users, self._movies)
        self._folds = collaborative_folds(dataset)

    def scores(self, each: Each | None) -> np.ndarray:
        """Score the test rows."""
        return score_rows(self._bundle, self._test, each)

    def lists(self, each: Each | None) -> np.ndarray:
        """Make the lists for evaluation."""
        lists, _ = held_out_lists(Scorer(self._bundle), self._train, means=Means(None, each))
        return lists.to_numpy()

    def features(self, each: Each | None) -> np.ndarray:
        """Fit the collaborative features; gives those of the training rows."""
        config = self._recipe.within(self._encoders).signals
        if config is None:
            raise ValueError(f"{self._recipe.description} has no collaborative features")
        fitted = CollaborativeFolds.fit(self._train, self._sides, [config], each=each)
        return fitted.out_of_fold(config, self._train)

    def training(self, engine: RayEngine | None) -> tuple[float, list[np.ndarray]]:
        """Train an epoch; gives the validation loss and the weights."""
        data = TrainingData.of(self._recipe, self._train, self._encoders, self._movies, self._folds)
        fitting = Fitting(self._recipe, data)
        if engine is None:
            share_processors(os.cpu_count() or 1)
            reports = fitting.run(lambda report: None)
        else:
            reports = engine.train(fitting, lambda report: None, lambda report: None, f"bench-{time.time_ns()}")
        return reports[-1].val_loss, fitting.network.get_weights()


@contextmanager
def head(cpus: int) -> Iterator[str]:
    """A cluster of this machine, beside any other; gives its address."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus, "include_dashboard": False})
    try:
        yield made.address
    finally:
        ray.shutdown()
        made.shutdown()


def measured(bench: Bench, engine: RayEngine | None) -> dict[str, tuple[float, Any]]:
    """Seconds and result of each step."""
    steps: dict[str, Callable[[Any], Any]] = {
        "scores": bench.scores,
        "lists": bench.lists,
        "collaborative_features": bench.features,
        "training": bench.training,
    }
    found = {}
    for name, step in steps.items():
        begin = time.perf_counter()
        result = step(engine)
        found[name] = time.perf_counter() - begin, result
    return found


def overhead(engine: RayEngine) -> float:
    """Seconds of work that is nothing: to start processes, and to load this project in them."""
    begin = time.perf_counter()
    list(engine(_nothing, _nothing_of, [0], None))
    return time.perf_counter() - begin


def compared(found: dict[str, tuple[float, Any]], here: dict[str, tuple[float, Any]]) -> dict[str, Any]:
    """Whether the results are those of this machine."""
    same = [np.array_equal(found[name][1], here[name][1]) for name in here if name != "training"]
    (loss, weights), (own_loss, own_weights) = found["training"][1], here["training"][1]
    apart = max(float(np.abs(one - other).max()) for one, other in zip(weights, own_weights, strict=True))
    return {
        "equal": all(same) and abs(loss - own_loss) < _TOLERANCE,
        "validation_loss_apart": abs(loss - own_loss),
        "weights_apart": apart,
    }


def main(arguments: list[str]) -> None:
    """Measure, print and write."""
    home, dataset = published_dataset(arguments)
    recipes, published = recipes_in_force(), published_versions(home, dataset)
    models = [name for name in published if recipes[name].signals and not recipes[name].negatives]
    if not models:
        sys.exit(f"error: no published model of {dataset} has collaborative features and learns from ratings")
    bench = Bench(dataset, models[0], ModelBundle.load(published[models[0]].bundle))
    here = measured(bench, None)
    seconds, results = {}, []
    with head(max(_WORKERS) + 1) as address, tempfile.TemporaryDirectory() as storage:
        for workers in _WORKERS:
            engine = RayEngine(address, workers, 1, UPath(storage))
            started = overhead(engine)
            found = measured(bench, engine)
            seconds[workers] = {name: each[0] for name, each in found.items()}
            results.append({"workers": workers, "overhead_seconds": started, **compared(found, here)})
    own = {name: each[0] for name, each in here.items()}
    say("seconds", [{"workers": "this machine", **own}, *({"workers": n, **each} for n, each in seconds.items())], 1)
    say("compared with this machine", results, 7)
    content = {"dataset": dataset, "model": models[0], "here": own, "workers": seconds, "compared": results}
    facts = {"overhead_seconds": results[-1]["overhead_seconds"], "equal": all(each["equal"] for each in results)}
    write_json(home / "bench" / "cluster.json", {**content, **facts})


def _nothing(shared: None) -> None:
    return shared


def _nothing_of(state: None, item: int) -> pd.DataFrame:
    return pd.DataFrame({"item": [item], "state": [state]})


if __name__ == "__main__":
    main(sys.argv[1:])
