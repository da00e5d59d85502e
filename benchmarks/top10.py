"""Measure the cost of top lists, on the published results of ``make run``: ``make bench-top10``.

Prints tables: the exact scorer compared with Keras, the shortlist search compared with brute force and their agreement
over all users, the latency for one user, and how the cost grows with users and movies. Writes ``bench/top10.json`` in
the home.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.special import expit

from benchmarks.common import published_dataset, read_document, read_table, say, write_json
from ml.features.tables import latest_month
from ml.inference.engine.autoint_forward import AutoIntForward
from ml.inference.engine.keras_forward import KerasForward
from ml.inference.engine.pair_numbers import PairNumbers
from ml.inference.engine.shortlist import SearchReport, search
from ml.inference.recommend import Recommender
from ml.inference.scorer import Scorer
from ml.models.autoint import Inputs, build_model
from ml.models.bundle import ModelBundle
from ml.models.config import AutoIntConfig
from ml.training.config import TrainingConfig
from ml.training.trainer import train
from orchestration.config.recipes_in_force import reference_models
from orchestration.resources.raw_data import RawData
from orchestration.tracking.registered_version import RegisteredVersion
from orchestration.tracking.resource import Tracking

_ROWS = 200_000
_REPEATS = 5
_USERS_TIMED = 300
LONGER = "autoint, trained longer"


def timed(work: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[float, Any]:
    """Return the wall-clock seconds of a call, and its result."""
    start = time.perf_counter()
    result = work(*arguments, **options)
    return time.perf_counter() - start, result


def bench_forward(name: str, bundle: ModelBundle) -> dict[str, Any]:
    """Measure rows per second of the exact scorer and of ``model.predict``, alternating on the same rows."""
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, size, _ROWS) for size in bundle.feature_map.field_dims], 1).astype(np.int32)
    fast, keras = AutoIntForward(bundle.network), KerasForward(bundle.network)
    gap = np.abs(expit(fast.logits(codes)) - expit(keras.logits(codes))).max()  # also warms both up
    rates: dict[str, list[float]] = {"fast": [], "keras": []}
    for _ in range(_REPEATS):
        for path, forward in (("fast", fast), ("keras", keras)):
            rates[path].append(_ROWS / timed(forward.logits, codes)[0])
    medians = {path: float(np.median(values)) for path, values in rates.items()}
    return {
        "model": name,
        "scorer, rows/s": medians["fast"],
        "predict, rows/s": medians["keras"],
        "ratio": medians["fast"] / medians["keras"],
        "largest gap, millionths": 1e6 * gap,
    }


@dataclass(frozen=True)
class PathsResult:
    """Shortlist search and brute force over all users.

    Attributes:
        seconds: wall-clock time of the shortlist search, including writing its table.
        processor_seconds: of all processors, in the search alone.
        write_seconds: wall-clock time of the writing alone.
        brute_force_seconds: wall-clock time of brute force.
        agreement: share of the slots (users x ranks) with the same movie; scores within 1e-6 count as equal.
        distinct_movies: number of distinct movies in all lists.
        report: report of the shortlist search.
    """

    seconds: float
    processor_seconds: float
    write_seconds: float
    brute_force_seconds: float
    agreement: float
    distinct_movies: int
    report: SearchReport


def bench_paths(bundle: ModelBundle, ratings: pd.DataFrame, moment: tuple[int, int]) -> PathsResult:
    """Run both searches over all users and compare them, after warming up the compiled loops."""
    recommender = Recommender(Scorer(bundle), ratings)
    warm = recommender.scorer.catalogue(*moment)
    warm.rows(np.arange(1)), warm.pairs(np.arange(1), np.arange(1))
    start = time.process_time()
    seconds, [(short, report)] = timed(recommender.recommend_all, [moment])
    processor_seconds = time.process_time() - start
    with tempfile.TemporaryDirectory() as folder:
        write_seconds, _ = timed(short.to_parquet, Path(folder) / "top10.parquet", index=False)
    brute_seconds, [(brute, _)] = timed(recommender.recommend_all, [moment], method="brute_force")
    same = short["movie_id"].to_numpy() == brute["movie_id"].to_numpy()
    same |= np.abs(short["score"].to_numpy() - brute["score"].to_numpy()) <= 1e-6
    movies = short["movie_id"].nunique()
    agreement = float(same.mean())
    total = seconds + write_seconds
    return PathsResult(total, processor_seconds, write_seconds, brute_seconds, agreement, movies, report)


def _paths_row(name: str, result: PathsResult) -> dict[str, Any]:
    return {
        "model": name,
        "shortlist and write, s": result.seconds,
        "search, processor s": result.processor_seconds,
        "write, s": result.write_seconds,
        "brute force, s": result.brute_force_seconds,
        "method": result.report.method,
        "attempts": result.report.attempts,
        "pairs scored": result.report.pairs_scored / result.report.pairs_total,
        "agreement": result.agreement,
        "distinct movies": result.distinct_movies,
    }


def bench_latency(bundle: ModelBundle, ratings: pd.DataFrame, moment: tuple[int, int]) -> dict[str, float]:
    """Measure milliseconds for one user's list, after a warm-up."""
    recommender = Recommender(Scorer(bundle), ratings)
    users = np.random.default_rng(1).choice(bundle.users["user_id"], _USERS_TIMED).tolist()
    recommender.recommend(users[0], *moment)
    times = [timed(recommender.recommend, user, *moment)[0] * 1000 for user in users]
    return {"p50": float(np.median(times)), "p99": float(np.quantile(times, 0.99))}


class Grown:
    """A model's catalog with more users and movies; each new one has the feature indices of a real one.

    So that they are not copies, a new user's id embedding mixes those of two real users; likewise for movies.
    """

    def __init__(self, bundle: ModelBundle, users: int, movies: int, moment: tuple[int, int]) -> None:
        scorer = Scorer(bundle)
        rng = np.random.default_rng(2)
        self.shape = (users, movies)
        self._context = scorer.context_indices(pd.Series([moment[0]]), pd.Series([moment[1]]))
        dims = list(bundle.feature_map.field_dims)
        table = np.split(np.asarray(bundle.network.get_layer("embedding").table), np.cumsum(dims)[:-1])
        self._like = rng.integers(0, dims[0], users), rng.integers(0, dims[1], movies)
        for field, size in ((0, users), (1, movies)):
            other, share = rng.integers(0, dims[field], size), rng.random((size, 1)).astype(np.float32)
            table[field] = share * table[field][self._like[field]] + (1 - share) * table[field][other]
            dims[field] = size
        network = build_model("autoint", Inputs(dims), AutoIntConfig(), seed=0)
        embedding, *others = [layer for layer in network.layers if layer.weights]
        embedding.set_weights([np.concatenate(table)])
        for layer in others:
            layer.set_weights(bundle.network.get_layer(layer.name).get_weights())
        self._scorer, self._forward = scorer, AutoIntForward(network)
        everything = np.arange(movies)
        pairs = scorer.pair_indices(np.zeros(movies, int), self._like[1], self._context)
        fields = np.array(bundle.feature_map.positions("movie"))
        pairs[:, 1] = everything
        self._grid = self._forward.grid(fields, pairs[:, fields])

    def pairs(self, users: np.ndarray, movies: np.ndarray) -> np.ndarray:
        """Return logits of pairs."""
        codes = self._scorer.pair_indices(self._like[0][users], self._like[1][movies], self._context)
        codes[:, 0], codes[:, 1] = users, movies
        return self._forward.logits(codes)

    def rows(self, users: np.ndarray) -> np.ndarray:
        """Return logits of whole rows."""
        codes = self._scorer.row_indices(self._like[0][users], self._context)
        codes[:, 0] = users
        return self._grid.logits(codes)

    def numbers(self, users: np.ndarray, movies: np.ndarray) -> np.ndarray:
        """Return no features."""
        return np.empty((len(users), 0, len(movies)), np.float32)


def bench_growth(bundle: ModelBundle, moment: tuple[int, int]) -> list[dict[str, Any]]:
    """Measure seconds and scored pairs for multiples of the users and movies."""
    users, movies = len(bundle.users), len(bundle.movies)
    rows = []
    for more_users, more_movies in ((1, 1), (4, 1), (10, 1), (1, 4)):
        catalogue = Grown(bundle, users * more_users, movies * more_movies, moment)
        seen = csr_array(catalogue.shape, dtype=bool)
        wall, [(_, report)] = timed(search, [catalogue], seen, 10, 0, lambda done: None)
        rows.append({"users": f"{more_users}x", "movies": f"{more_movies}x", "s": wall, **_cost(report)})
    return rows


def _cost(report: SearchReport) -> dict[str, Any]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    share = report.pairs_scored / report.pairs_total
    return {
        "method": report.method,
        "pairs scored": report.pairs_scored,
        "share": share,
        "peak memory so far, GiB": peak,
    }


def trained_longer(bundle: ModelBundle, train_interactions: pd.DataFrame) -> ModelBundle:
    """Train an AutoInt with far more diverse lists: learning rate 1e-3, 8 epochs."""
    network = build_model("autoint", Inputs(bundle.feature_map.field_dims), AutoIntConfig(), seed=0)
    train(network, train_interactions, TrainingConfig(learning_rate=1e-3, epochs=8))
    return ModelBundle(network, bundle.feature_map, bundle.users, bundle.movies)


def main() -> int:
    """Run every benchmark on one data set (default: the first published one) and return the exit status."""
    home, dataset = published_dataset(sys.argv[1:])
    ratings, train_interactions = (read_table(dataset, name) for name in ("ratings", "train_interactions"))
    moment = latest_month(ratings)
    tracking = Tracking(raw_data=RawData.of(dataset))
    bundles, loads = {}, []
    for model in reference_models():
        version = RegisteredVersion(**read_document(dataset, model))
        seconds, bundles[model] = timed(tracking.load_bundle, version)
        loads.append({"model": model, "load, s": seconds})
    say(f"Loading a model from the registry ({dataset})", loads)
    say("Exact scorer", [bench_forward(*item) for item in bundles.items()])
    latency = {name: bench_latency(bundle, ratings, moment) for name, bundle in bundles.items()}
    say("One user, ms", [{"model": name, **times} for name, times in latency.items()])
    paths = {name: bench_paths(bundle, ratings, moment) for name, bundle in bundles.items()}
    plain = [name for name, bundle in bundles.items() if not PairNumbers(bundle.network).count]
    write_json(home / "bench" / "top10.json", _summary(paths, plain, latency))
    longer = trained_longer(bundles["autoint"], train_interactions)
    paths[LONGER] = bench_paths(longer, ratings, moment)
    say("All users", [_paths_row(*item) for item in paths.items()])
    say(f"Growth ({LONGER})", bench_growth(longer, moment))
    return 0


def _summary(paths: dict[str, PathsResult], plain: list[str], latency: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Return the content of ``top10.json``: totals over models, latency of the slowest.

    Args:
        paths: of the published models.
        plain: those without collaborative features, as in the reference.
        latency: of the published models.
    """
    models = {
        name: {
            "seconds": result.seconds,
            "agreement": result.agreement,
            "share_of_pairs": result.report.pairs_scored / result.report.pairs_total,
            "processor_seconds": result.processor_seconds,
            "brute_force_seconds": result.brute_force_seconds,
        }
        for name, result in paths.items()
    }
    return {
        "seconds_total": sum(result.seconds for result in paths.values()),
        "seconds_reference": sum(paths[name].seconds for name in plain),
        "models": models,
        "latency_ms": max(latency.values(), key=lambda times: times["p99"]),
    }


if __name__ == "__main__":
    sys.exit(main())
