"""Measure the recipe that learns the order of ratings by the protocol of its papers: ``make bench-sequence``.

Leave-one-out on all ratings of the last ``make run``: each user's last rating is the test item, the one before it the
validation item (``ml.evaluation.next_item``). Trains the first recipe of recipes.yaml that learns from the order, also
where it is not enabled; after each epoch, the validation items are ranked. Test items are ranked once, after the last
epoch, with the validation item as the latest of the history. Writes ``bench/sequence.json`` in the home.
"""

import sys
import time
from dataclasses import asdict
from typing import cast

import numpy as np
from scipy import sparse

from benchmarks.common import published_dataset, read_document, read_table, say, write_json
from ml.evaluation.next_item import Scores, evaluated_users, next_item_metrics, next_item_ranks
from ml.features.ease import ease_weights
from ml.features.feature_map import FeatureMap
from ml.features.histories import Histories
from ml.models.config import SASRecConfig
from ml.models.sequence import NextItemModel
from ml.settings_file import read_settings
from ml.training.history_trainer import states_of, train_on_histories
from ml.training.recipes import PAIR_FEATURES, Recipe, RecipeBook
from ml.training.reports import EpochReport
from orchestration.config.settings import settings

_LEAST_SHARE = 1e-9  # held out for validation: one rating of each user
_EASE_PENALTY = 500.0
# On MovieLens-1M, all items ranked: hit rate and NDCG at 10 as published.
_PUBLISHED = [
    {"model": "SASRec, BERT4Rec (Petrov and Macdonald, RecSys 2023)", "hit_rate_at_10": ".24 to .28"},
    {"model": "gSASRec (the same)", "hit_rate_at_10": "about .30"},
    {"model": "HSTU (Zhai et al., ICML 2024)", "hit_rate_at_10": ".31 to .33"},
]


class Bench:
    """The benchmark on one data set.

    Args:
        dataset: name of the data set.
    """

    def __init__(self, dataset: str) -> None:
        feature_map = FeatureMap.from_dict(read_document(dataset, "feature_map"))
        rows = read_table(dataset, "encoded_interactions")
        users, self._items = (len(feature_map[name].values) for name in PAIR_FEATURES)
        self._whole = Histories.of(rows.assign(row=np.arange(len(rows))), users)
        self._before_test, self._before_validation = self._whole.without_last(1), self._whole.without_last(2)
        self._users = evaluated_users(self._whole)

    def validation(self, scores: Scores) -> dict[str, float]:
        """Rank the validation items."""
        return self._metrics(scores, self._before_validation, self._before_test)

    def test(self, scores: Scores) -> dict[str, float]:
        """Rank the test items."""
        return self._metrics(scores, self._before_test, self._whole)

    def _metrics(self, scores: Scores, before: Histories, after: Histories) -> dict[str, float]:
        return next_item_metrics(next_item_ranks(scores, before, self._users, after.last(self._users)))

    def baselines(self) -> list[dict[str, object]]:
        """Measure popularity and EASE of the ratings before the validation items, on the test items."""
        learned, given = (self._seen(each) for each in (self._before_validation, self._before_test))
        popular, weights = learned.sum(axis=0), ease_weights(learned, _EASE_PENALTY)
        return [
            {"model": "popularity", **self.test(lambda users: np.tile(popular, (len(users), 1)))},
            {"model": "EASE", **self.test(lambda users: given[users] @ weights)},
        ]

    def _seen(self, histories: Histories) -> sparse.csr_array:
        lengths = histories.lengths
        cells = np.repeat(np.arange(len(lengths)), lengths), histories.items
        return sparse.csr_array((np.ones(len(histories.items)), cells), shape=(len(lengths), self._items))

    def of(self, name: str, recipe: Recipe) -> dict[str, object]:
        """Train and measure a recipe."""
        model = NextItemModel(self._items, cast("SASRecConfig", recipe.model), recipe.training.seed)
        epochs: list[dict[str, object]] = []

        def epoch_done(report: EpochReport) -> None:
            epochs.append({**asdict(report), **self.validation(self._scores(model, self._before_validation))})
            say(f"Epoch {report.epoch}, ranks of the validation items", [epochs[-1]], 4)

        training = recipe.training.model_copy(update={"validation_share": _LEAST_SHARE})
        start = time.perf_counter()
        train_on_histories(model, self._before_test, training, epoch_done)
        seconds = time.perf_counter() - start
        test = self.test(self._scores(model, self._before_test))
        return {"model": name, **test, "seconds": seconds, "epochs": epochs}

    def _scores(self, model: NextItemModel, histories: Histories) -> Scores:
        states, vectors = states_of(model, histories), np.asarray(model.vectors)
        return lambda users: states[users] @ vectors.T


def main(arguments: list[str]) -> None:
    """Run the benchmark and write its file."""
    home, dataset = published_dataset(arguments)
    path = settings().recipes_yaml
    own = {name: each for name, each in read_settings(path, RecipeBook).recipes.items() if each.learns_order}
    if not own:
        sys.exit(f"error: {path} has no recipe of the architecture sasrec; add one")
    name, recipe = next(iter(own.items()))
    bench = Bench(dataset)
    found = [*bench.baselines(), bench.of(name, recipe)]
    shown = [{key: each[key] for key in ("model", "hit_rate_at_10", "ndcg_at_10")} for each in found]
    say(f"Each user's last item among all unrated ones, {dataset}", shown, 4)
    say("Published for MovieLens-1M", _PUBLISHED)
    target = home / "bench" / "sequence.json"
    write_json(target, {"dataset": dataset, "recipe": recipe.model_dump(mode="json"), "models": found})
    sys.stdout.write(f"\nWritten to {target}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
