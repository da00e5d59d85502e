"""What top lists cost, on the published results of ``make run``: ``make bench-top10``.

Prints tables: the exact scorer against Keras, the shortlist path against brute force with their agreement over all
users, one user's latency, and how cost grows with users and movies.
"""

import io
import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from ml.features.tables import latest_month
from ml.inference.bundle import ModelBundle
from ml.inference.forward import AutoIntForward, KerasForward
from ml.inference.locations import published_datasets, tables_directory
from ml.inference.recommend import Recommender
from ml.inference.scorer import Scorer
from ml.inference.shortlist import SearchReport, search
from ml.models.autoint import build_model
from ml.models.config import AutoIntConfig
from ml.training.config import TrainingConfig
from ml.training.trainer import train
from orchestration.assets.common import MODELS
from orchestration.registered_version import RegisteredVersion
from orchestration.resources.source import RawData
from orchestration.resources.tracking import Tracking
from orchestration.settings import Settings

_ROWS = 200_000
_REPEATS = 5
_USERS_TIMED = 300


def say(title: str, rows: list[dict[str, Any]]) -> None:
    """Print a table."""
    sys.stdout.write(f"\n{title}\n{pd.DataFrame(rows).to_markdown(index=False, tablefmt='simple', floatfmt=',.3f')}\n")
    sys.stdout.flush()


def timed(work: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[float, Any]:
    """Wall-clock seconds of a call, and its result."""
    start = time.perf_counter()
    result = work(*arguments, **options)
    return time.perf_counter() - start, result


def bench_forward(name: str, bundle: ModelBundle) -> dict[str, Any]:
    """Rows a second of the exact scorer and of ``model.predict``, in turns on the same rows."""
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, size, _ROWS) for size in bundle.feature_map.field_dims], 1).astype(np.int32)
    fast, keras = AutoIntForward(bundle.network), KerasForward(bundle.network)
    gap = np.abs(sigmoid(fast.logits(codes)) - sigmoid(keras.logits(codes))).max()  # also warms both up
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
        "largest gap": f"{gap:.1e}",
    }


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Probabilities of logits."""
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def bench_paths(name: str, bundle: ModelBundle, ratings: pd.DataFrame, moment: tuple[int, int]) -> dict[str, Any]:
    """Both ways of finding all lists, and whether they agree."""
    recommender = Recommender(Scorer(bundle), ratings)
    recommender.recommend(int(bundle.users["user_id"].iloc[0]), *moment)
    wall, [(short, report)] = timed(recommender.recommend_all, [moment])
    write, _ = timed(short.to_parquet, io.BytesIO(), index=False)
    brute_wall, [(brute, _)] = timed(recommender.recommend_all, [moment], method="brute_force")
    moved = short["movie_id"].to_numpy() != brute["movie_id"].to_numpy()
    apart = np.abs(short["score"].to_numpy() - brute["score"].to_numpy()) > 1e-6
    differing = short.loc[moved & apart, "user_id"].nunique()
    return {
        "model": name,
        "shortlist, s": wall,
        "write, s": write,
        "brute force, s": brute_wall,
        "method": report.method,
        "attempts": report.attempts,
        "pairs scored": report.pairs_scored / report.pairs_total,
        "users": len(bundle.users),
        "users that differ": differing,
        "distinct movies": short["movie_id"].nunique(),
    }


def bench_latency(name: str, bundle: ModelBundle, ratings: pd.DataFrame, moment: tuple[int, int]) -> dict[str, Any]:
    """Milliseconds for one user's list, warm."""
    recommender = Recommender(Scorer(bundle), ratings)
    users = np.random.default_rng(1).choice(bundle.users["user_id"], _USERS_TIMED)
    recommender.recommend(int(users[0]), *moment)
    times = [timed(recommender.recommend, int(user), *moment)[0] * 1000 for user in users]
    return {
        "model": name,
        "median, ms": float(np.median(times)),
        "99th percentile, ms": float(np.quantile(times, 0.99)),
    }


class Grown:
    """A model's catalogue with more users and movies: each new one has the codes of a real one.

    To keep them from being copies, a new user's own embedding mixes those of two real users, and a movie's likewise.
    """

    def __init__(self, bundle: ModelBundle, users: int, movies: int, moment: tuple[int, int]) -> None:
        scorer = Scorer(bundle)
        rng = np.random.default_rng(2)
        self.shape = (users, movies)
        self._context = scorer.context_codes(pd.Series([moment[0]]), pd.Series([moment[1]]))
        dims = list(bundle.feature_map.field_dims)
        table = np.split(np.asarray(bundle.network.get_layer("embedding").table), np.cumsum(dims)[:-1])
        self._like = rng.integers(0, dims[0], users), rng.integers(0, dims[1], movies)
        for field, size in ((0, users), (1, movies)):
            other, share = rng.integers(0, dims[field], size), rng.random((size, 1)).astype(np.float32)
            table[field] = share * table[field][self._like[field]] + (1 - share) * table[field][other]
            dims[field] = size
        network = build_model("autoint", dims, AutoIntConfig(), seed=0)
        embedding, *others = [layer for layer in network.layers if layer.weights]
        embedding.set_weights([np.concatenate(table)])
        for layer in others:
            layer.set_weights(bundle.network.get_layer(layer.name).get_weights())
        self._scorer, self._forward = scorer, AutoIntForward(network)

    def pairs(self, users: np.ndarray, movies: np.ndarray) -> np.ndarray:
        """Logits of pairs."""
        codes = self._scorer.join_codes(self._like[0][users], self._like[1][movies], self._context)
        codes[:, 0], codes[:, 1] = users, movies
        return self._forward.logits(codes)

    def rows(self, users: np.ndarray) -> np.ndarray:
        """Logits of whole rows."""
        movies = np.arange(self.shape[1])
        return self.pairs(np.repeat(users, len(movies)), np.tile(movies, len(users))).reshape(len(users), -1)


def bench_growth(bundle: ModelBundle, moment: tuple[int, int]) -> list[dict[str, Any]]:
    """Seconds and pairs at multiples of the users and movies."""
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
    """An AutoInt with far more diverse lists: learning rate 1e-3, 8 epochs."""
    network = build_model("autoint", bundle.feature_map.field_dims, AutoIntConfig(), seed=0)
    train(network, train_interactions, TrainingConfig(learning_rate=1e-3, epochs=8))
    return ModelBundle(network, bundle.feature_map, bundle.users, bundle.movies)


def main() -> int:
    """Run every benchmark on one data set (default: the first that is published); gives the exit status."""
    home = Settings().home
    datasets = sys.argv[1:] or published_datasets(home)
    if not datasets:
        sys.stderr.write(f"error: nothing is published under {home}; run make run first\n")
        return 1
    dataset = datasets[0]
    ratings, train_interactions = (read_table(dataset, name) for name in ("ratings", "train_interactions"))
    moment = latest_month(ratings)
    tracking = Tracking(raw_data=RawData(source=dataset))
    bundles, loads = {}, []
    for model in MODELS:
        version = RegisteredVersion(**json.loads((tables_directory(home, dataset) / f"{model}.json").read_text()))
        seconds, bundles[model] = timed(tracking.load_bundle, version)
        loads.append({"model": model, "load, s": seconds})
    say(f"Loading a model from the registry ({dataset})", loads)
    say("Exact scorer", [bench_forward(*item) for item in bundles.items()])
    say("One user", [bench_latency(*item, ratings, moment) for item in bundles.items()])
    longer = trained_longer(bundles["autoint"], train_interactions)
    everything = {**bundles, "autoint, trained longer": longer}
    say("All users", [bench_paths(*item, ratings, moment) for item in everything.items()])
    say("Growth (autoint, trained longer)", bench_growth(longer, moment))
    return 0


def read_table(dataset: str, name: str) -> pd.DataFrame:
    """A table of the pipeline."""
    path = tables_directory(Settings().home, dataset) / f"{name}.parquet"
    return pd.read_parquet(io.BytesIO(path.read_bytes()))


if __name__ == "__main__":
    sys.exit(main())
