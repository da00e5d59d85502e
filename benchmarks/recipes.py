"""Measure what each recipe is worth, on the tables of ``make run`` or ``make run-temporal``: ``make bench-recipes``.

Each recipe of the recipes file, enabled or not, is trained with several seeds and measured by the pipeline's own
evaluation. The means over seeds are compared with those of its parent, the recipe whose name its own begins with, by a
paired bootstrap over users. Finished trainings are kept in ``bench/recipes`` in the home, so that the same command
resumes. Writes ``bench/recipes_<data set>.json``.
"""

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.common import collaborative_folds, published_dataset, read_document, read_table, say, write_json
from ml import schema
from ml.evaluation.catalogue import catalogue_metrics_by_user
from ml.evaluation.intervals import compare_by_user
from ml.evaluation.metric_tables import evaluate, evaluate_lists
from ml.evaluation.ranking import ranking_metrics_by_user
from ml.features.collaborative_folds import CollaborativeFolds
from ml.features.feature_map import FeatureMap
from ml.features.genres import genre_sets
from ml.features.moments import with_moments
from ml.features.sides import Sides
from ml.files import write_atomically
from ml.inference.held_out import held_out_lists
from ml.inference.scorer import Scorer
from ml.models.bundle import ModelBundle
from ml.settings_file import read_settings
from ml.training.data import TrainingData
from ml.training.fitting import Fitting
from ml.training.next_item import learn_next_items
from ml.training.recipes import REFERENCE, Recipe, RecipeBook
from ml.training.threads import share_processors
from orchestration.assets.common import ENCODED
from orchestration.config.instance_config import trainings_at_once
from orchestration.config.settings import settings
from orchestration.steps.starting_point import TrainingTables

SEEDS = (1, 2, 3)
SHOWN = ("auc", "log_loss", "ndcg_at_10_reference", "ndcg_at_10", "catalogue_ndcg_at_10", "cpu_seconds")
COMPARED = ("ndcg_at_10_reference", "catalogue_ndcg_at_10")  # with the parent, by intervals


@dataclass(frozen=True)
class Measured:
    """A trained network's figures.

    Attributes:
        values: by metric, and the training's CPU seconds.
        by_user: metrics, one row for each user with test rows.
    """

    values: dict[str, float]
    by_user: pd.DataFrame


class Bench:
    """The benchmark on one data set and split.

    Args:
        dataset: name of the data set, with its split.
    """

    def __init__(self, dataset: str) -> None:
        self._dataset = dataset
        train, self._test = (read_table(dataset, f"{part}_interactions") for part in ("train", "test"))
        users, movies = read_table(dataset, "users"), read_table(dataset, "movies")
        encoders, self._times = (
            FeatureMap.from_dict(read_document(dataset, "feature_map")),
            read_table(dataset, ENCODED),
        )
        self._tables = TrainingTables(train, encoders, users, movies, collaborative_folds(dataset))
        self._fitted: dict[str, CollaborativeFolds] = {}
        self._kept = Path(settings().local_home) / "bench" / "recipes" / dataset

    def measured(self, name: str, recipe: Recipe, seed: int) -> Measured:
        """Train a recipe with a seed and measure it, or read what an earlier call has kept."""
        recipe = recipe.model_copy(update={"training": recipe.training.model_copy(update={"seed": seed})})
        values = self._kept / f"{name}-{seed}-{recipe.fingerprint()[:12]}.json"
        by_user = values.with_suffix(".parquet")
        if not values.exists():
            found = self._measure(name, recipe)
            self._kept.mkdir(parents=True, exist_ok=True)
            write_atomically(by_user, found.by_user.to_parquet())
            write_atomically(values, json.dumps(found.values).encode())
        return Measured(json.loads(values.read_text()), pd.read_parquet(by_user))

    def _measure(self, name: str, recipe: Recipe) -> Measured:
        tables, test, train = self._tables, self._test, self._tables.interactions
        if recipe.moments:
            tables = tables.with_moments(self._times, recipe.moments)
            test = with_moments(test, self._times, recipe.moments)
        collaborative = self._collaborative(recipe)
        begin = time.process_time()
        data = TrainingData.of(recipe, tables.interactions, tables.encoders, tables.movies, collaborative)
        fitting = Fitting(recipe, data)
        fitting.run(lambda report: None)
        seconds = time.process_time() - begin
        bundle = ModelBundle.of(
            fitting.serving_network, tables.encoders, tables.users, tables.movies, recipe.numbers, recipe.diversity
        )
        scorer = Scorer(bundle)
        scores = scorer.score_encoded(test)
        lists, _ = held_out_lists(scorer, train)
        measured = (
            evaluate(name, test, scores),
            evaluate_lists(name, train, test, lists, genre_sets(scorer.bundle.movies["genres"])),
        )
        rows = pd.concat(measured)
        figures = dict(zip(rows["metric"], rows["value"].astype(float), strict=True))
        users, movies, labels = (test[column].to_numpy() for column in ("user_id", "movie_id", schema.LABEL))
        by_user = ranking_metrics_by_user(users, movies, labels, scores).join(
            catalogue_metrics_by_user(test, lists), how="inner"
        )
        return Measured({**figures, "cpu_seconds": seconds}, by_user)

    def _collaborative(self, recipe: Recipe) -> CollaborativeFolds | None:
        """Return the collaborative features of a recipe: the pipeline's, or fitted here if a run has not done so."""
        tables = self._tables
        wanted = recipe.within(tables.encoders).signals
        if not wanted or tables.collaborative is None or tables.collaborative.has(wanted):
            return tables.collaborative
        key = wanted.model_dump_json()
        if key not in self._fitted:
            begin = time.process_time()
            self._fitted[key] = CollaborativeFolds.fit(
                tables.interactions,
                Sides.of(tables.encoders, tables.users, tables.movies),
                [wanted],
                learn_next_items=learn_next_items,
            )
            sys.stdout.write(f"collaborative features fitted in {time.process_time() - begin:.0f} CPU s\n")
        return self._fitted[key]


def parent_of(name: str, names: Sequence[str]) -> str | None:
    """Return the longest other name that a recipe's name begins with; None without one."""
    return max((other for other in names if name.startswith(f"{other}_")), key=len, default=None)


def compared(own: pd.DataFrame, parent: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Return the difference to the parent, with its interval, by metric, of means over seeds by user."""
    table = compare_by_user({"own": own[[*COMPARED]], "parent": parent[[*COMPARED]]})
    return {
        row["metric"]: {name: row[name] for name in ("difference", "low", "high")} for row in table.to_dict("records")
    }


def main() -> int:
    """Run the benchmark on one data set (default: the first published one) and return the exit status.

    Further arguments name recipes; default: all that every run trains, and those that are switched off.
    """
    home, dataset = published_dataset(sys.argv[1:2])
    share_processors(trainings_at_once())
    book = read_settings(settings().recipes_yaml, RecipeBook).recipes
    recipes = {name: each for name, each in book.items() if each.protocol == REFERENCE and not each.numbers}
    chosen = sys.argv[2:] or list(recipes)
    bench = Bench(dataset)
    results: dict[str, dict[str, Any]] = {}
    by_user: dict[str, pd.DataFrame] = {}
    for name in chosen:
        found = [bench.measured(name, recipes[name], seed) for seed in SEEDS]
        values = pd.DataFrame([each.values for each in found])
        by_user[name] = pd.concat([each.by_user for each in found]).groupby(level=0).mean()
        results[name] = {"mean": values.mean().to_dict(), "sd": values.std().to_dict()}
        if parent := parent_of(name, list(by_user)):
            results[name] |= {"parent": parent, "difference": compared(by_user[name], by_user[parent])}
        sys.stdout.write(f"{name}: {json.dumps(results[name])}\n")
        sys.stdout.flush()
    rows = [{"recipe": name} | {metric: each["mean"].get(metric) for metric in SHOWN} for name, each in results.items()]
    say(f"Recipes on {dataset}, mean of {len(SEEDS)} seeds", rows, digits=5)
    write_json(home / "bench" / f"recipes_{dataset}.json", results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
