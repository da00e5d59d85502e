"""Measure the quality of lists for visitors without a history, on the results of ``make run``: ``make bench-visitors``.

Known users play visitors: the rule gets a few of their liked movies, and their gender, age group and occupation. It
knows none of their other ratings, and must find their other liked movies among all movies. It is compared with
popularity, and with the same model for the user that it was trained on. The networks were trained on the players'
ratings, but use them for nobody else. Writes ``bench/visitors.json`` in the home.
"""

import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from benchmarks.common import published_dataset, say, write_json
from ml import schema
from ml.evaluation.catalogue import catalogue_metrics_by_user
from ml.inference.recommend import Recommender
from ml.inference.scorer import ScoredCatalogue
from ml.inference.visitors import Visitor, VisitorRecommender
from ml.published.snapshot import Published, PublishedModel

_SEED = 42
_PLAYERS, _GIVEN, _LEAST_LIKES = 500, 5, 15
_LENGTH = 10
_BLOCK = 256  # users scored at a time


class _CachedLogits:
    """Logits of all users and movies for one month, computed once and used for every list."""

    def __init__(self, catalogue: ScoredCatalogue) -> None:
        users = np.arange(catalogue.shape[0])
        blocks = np.array_split(users, max(len(users) // _BLOCK, 1))
        self._logits = np.concatenate([catalogue.rows(block) for block in blocks])

    def rows(self, users: np.ndarray) -> np.ndarray:
        """Return a copy of the logits, float32 [n, movies], of user positions int [n]."""
        return self._logits[users]


class Bench:
    """Players sampled from a data set's users.

    Args:
        published: the published data set.
        seed: random seed.
    """

    def __init__(self, published: Published, seed: int) -> None:
        people = published.current.people
        liked = people.ratings[people.ratings[schema.LABEL] == 1]
        shuffled = liked.sample(frac=1, random_state=seed)
        counts = shuffled.groupby("user_id").size()
        busy = counts[counts >= _LEAST_LIKES].index.to_series()
        self.players = busy.sample(min(_PLAYERS, len(busy)), random_state=seed).sort_values().tolist()
        own = shuffled[shuffled["user_id"].isin(self.players)]
        given = own.groupby("user_id").cumcount() < _GIVEN
        self._given = own[given].groupby("user_id")["movie_id"].agg(tuple)
        self._hidden = own.loc[~given, ["user_id", "movie_id"]].assign(label=1)
        self.others = people.ratings[~people.ratings["user_id"].isin(self.players)]
        self._people = people
        self.popular = liked[~liked["user_id"].isin(self.players)]["movie_id"].value_counts(sort=True).index.to_numpy()

    def visitor(self, user: int, *given: str) -> Visitor:
        """Return a player as a visitor who gives ``likes`` or ``demographics`` or both."""
        profile = self._people.profile(user)
        told: dict[str, str | int] = {
            name: profile[name] for name in ("gender", "age", "occupation") if name in profile
        }
        own = Visitor(told) if "demographics" in given else Visitor()
        return replace(own, liked=self._given[user]) if "likes" in given else own

    def measure(self, lists_of: Callable[[int], np.ndarray]) -> dict[str, float]:
        """Return mean metrics over the players of lists of movie ids, best first, without the given ones."""
        lists = []
        for user in self.players:
            movies = [movie for movie in lists_of(user) if movie not in self._given[user]][:_LENGTH]
            lists.append(pd.DataFrame({"user_id": user, "movie_id": movies, "rank": np.arange(1, len(movies) + 1)}))
        metrics = catalogue_metrics_by_user(self._hidden, pd.concat(lists, ignore_index=True))
        return {str(name).removeprefix("catalogue_"): float(value) for name, value in metrics.mean().items()}

    def of(self, model: PublishedModel) -> dict[str, dict[str, float]]:
        """Measure the rule and its comparisons for one model."""
        year, month = model.lists.moment
        recommender = model.live.recommender
        cached = _CachedLogits(recommender.scorer.catalogue(year, month))
        recommender.scorer.catalogue = lambda *_: cached  # type: ignore[assignment,method-assign]
        visitors = VisitorRecommender(recommender, self._people.users.reset_index(), self.others)
        known = Recommender(recommender.scorer, self.others)

        def rule(*given: str) -> Callable[[int], np.ndarray]:
            return lambda user: visitors.recommend(self.visitor(user, *given), year, month, _LENGTH + _GIVEN)[
                "movie_id"
            ].to_numpy()

        return {
            "rule: demographics and likes": self.measure(rule("demographics", "likes")),
            "rule: likes": self.measure(rule("likes")),
            "rule: demographics": self.measure(rule("demographics")),
            "the user as the model was trained on them": self.measure(
                lambda user: known.recommend(user, year, month, _LENGTH + _GIVEN)["movie_id"].to_numpy()
            ),
        }


def main(arguments: list[str]) -> None:
    """Measure and print."""
    home, dataset = published_dataset(arguments)
    published = Published(home, dataset)
    bench = Bench(published, _SEED)
    shares = {name: model.live.explanations.personal_share for name, model in published.current.models.items()}
    say(f"{dataset}: personal share of the scores' variance", [shares])
    found = {"popularity": {"popularity": bench.measure(lambda user: bench.popular)}}
    found |= {name: bench.of(model) for name, model in published.current.models.items()}
    rows = [{"model": model, "lists": kind, **figures} for model, own in found.items() for kind, figures in own.items()]
    say(f"{dataset}: {len(bench.players)} users as visitors, {_GIVEN} liked movies given", rows)
    write_json(
        home / "bench" / "visitors.json",
        {"dataset": dataset, "players": len(bench.players), "personal_shares": shares, "lists": found},
    )


if __name__ == "__main__":
    main(sys.argv[1:])
