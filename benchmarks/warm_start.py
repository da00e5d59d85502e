"""Measure cost and quality of warm starts, on the tables of ``make run``: ``make bench-warm-start``.

Training rows are sorted by time: most exist from the start, the rest arrive over a few nights. Each recipe is trained
on the first ones and warm-started night by night; for comparison, it is trained from scratch on all rows of the last
night. Both are measured on the same test rows, including those of later nights. Collaborative features are not part of
the cost: the pipeline fits them once a night for all recipes. Writes ``bench/warm_start.json`` in the
home.
"""

import sys
import time

import keras
import numpy as np
import pandas as pd

from benchmarks.common import Timing, published_dataset, read_document, read_table, say, write_json
from ml import schema
from ml.evaluation.classification import auc
from ml.evaluation.ranking import ranking_metrics_by_user
from ml.features.collaborative_folds import CollaborativeFolds
from ml.features.feature_map import FeatureMap
from ml.features.sides import Sides
from ml.models.bundle import ModelBundle
from ml.training.config import WarmStartConfig
from ml.training.data import TrainingData
from ml.training.fitting import Fitting
from ml.training.next_item import learn_next_items
from ml.training.recipes import REFERENCE, Recipe
from ml.training.warm_start import choose_rows, continue_from, warm_recipe
from orchestration.config.recipes_in_force import recipes_in_force

_NIGHTS = 3
_SHARE = 0.01  # share of the training rows that arrive per night
_BATCH = 8192


class Bench:
    """The benchmark on one data set.

    Args:
        dataset: name of the data set.
    """

    def __init__(self, dataset: str) -> None:
        train, self._test = (read_table(dataset, f"{part}_interactions") for part in ("train", "test"))
        self._feature_map = FeatureMap.from_dict(read_document(dataset, "feature_map"))
        self._users, self._movies = read_table(dataset, "users"), read_table(dataset, "movies")
        rank = np.empty(len(train), np.int64)
        rank[np.argsort(train["timestamp"].to_numpy(), kind="stable")] = np.arange(len(train))
        first = len(train) - _NIGHTS * int(len(train) * _SHARE)
        batch = np.maximum(0, (rank - first) // int(len(train) * _SHARE) + 1)
        self._train = train.assign(**{schema.BATCH: batch.astype(np.int32)})
        self._collaborative: dict[int, CollaborativeFolds] = {}

    def of(self, recipe: Recipe) -> dict[str, float]:
        """Measure one recipe."""
        settings = recipe.warm_start or WarmStartConfig()
        champion, _ = self._scratch(recipe, 0)
        stale, bundle = self._measured(champion), champion
        timings = []
        for night in range(1, _NIGHTS + 1):
            bundle, timing = self._warm(recipe, settings, bundle, night)
            timings.append(timing)
        scratch, cold = self._scratch(recipe, _NIGHTS)
        warm = Timing.median(timings)
        figures = {"cold_cpu": cold.cpu, "warm_cpu": warm.cpu, "cold_seconds": cold.wall, "warm_seconds": warm.wall}
        qualities = {"before": stale, "warm": self._measured(bundle), "cold": self._measured(scratch)}
        figures |= {f"{name}_{metric}": value for name, own in qualities.items() for metric, value in own.items()}
        return {"cost_ratio": warm.cpu / cold.cpu, **figures}

    def _folds(self, night: int) -> CollaborativeFolds:
        """Fit the collaborative features of all recipes on a night's rows."""
        if night not in self._collaborative:
            configs = (recipe.within(self._feature_map).signals for recipe in recipes_in_force().values())
            sides = Sides.of(self._feature_map, self._users, self._movies)
            self._collaborative[night] = CollaborativeFolds.fit(
                self._until(night), sides, filter(None, configs), learn_next_items=learn_next_items
            )
        return self._collaborative[night]

    def _until(self, night: int) -> pd.DataFrame:
        return self._train[self._train[schema.BATCH] <= night].reset_index(drop=True)

    def _scratch(self, recipe: Recipe, night: int) -> tuple[ModelBundle, Timing]:
        rows, folds = self._until(night), self._folds(night)
        wall, cpu = time.perf_counter(), time.process_time()
        fitting = Fitting(recipe, TrainingData.of(recipe, rows, self._feature_map, self._movies, folds))
        fitting.run(lambda report: None)
        return self._bundle(fitting, recipe), self._timing(wall, cpu, len(rows))

    def _warm(
        self, recipe: Recipe, settings: WarmStartConfig, parent: ModelBundle, night: int
    ) -> tuple[ModelBundle, Timing]:
        rows, folds, followed = self._until(night), self._folds(night), warm_recipe(recipe, settings)
        wall, cpu = time.perf_counter(), time.process_time()
        chosen = choose_rows(rows, recipe, settings, night - 1)
        data = TrainingData.of(followed, rows, self._feature_map, self._movies, folds, chosen.positions)
        fitting = Fitting(followed, data)
        continue_from(parent, fitting.network, followed, self._feature_map)
        fitting.run(lambda report: None)
        return self._bundle(fitting, recipe), self._timing(wall, cpu, len(chosen.positions))

    def _bundle(self, fitting: Fitting, recipe: Recipe) -> ModelBundle:
        return ModelBundle.of(fitting.serving_network, self._feature_map, self._users, self._movies, recipe.numbers)

    @staticmethod
    def _timing(wall: float, cpu: float, rows: int) -> Timing:
        return Timing(time.perf_counter() - wall, time.process_time() - cpu, rows)

    def _measured(self, bundle: ModelBundle) -> dict[str, float]:
        codes = self._test[list(schema.FIELD_NAMES)].to_numpy("int32")
        scores = bundle.network.predict(codes, batch_size=_BATCH, verbose=0)[:, 0]
        users, movies, labels = (self._test[name].to_numpy() for name in ("user_id", "movie_id", schema.LABEL))
        ndcg = ranking_metrics_by_user(users, movies, labels, scores)["ndcg_at_10"].mean()
        return {"auc": auc(labels, scores), "ndcg_at_10": float(ndcg)}


def main() -> int:
    """Run the benchmark on one data set (default: the first published one) and return the exit status."""
    home, dataset = published_dataset(sys.argv[1:])
    bench, results = Bench(dataset), {}
    for name, recipe in recipes_in_force().items():
        if recipe.protocol == REFERENCE:
            keras.backend.clear_session()
            results[name] = bench.of(recipe)
            say(f"{name} on {dataset}", [{"figure": figure, "value": value} for figure, value in results[name].items()])
    write_json(home / "bench" / "warm_start.json", {"nights": _NIGHTS, "share": _SHARE, "models": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
