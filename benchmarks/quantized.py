"""Compare the compiled scorer with ONNX Runtime and OpenVINO in float32, bfloat16 and int8: ``make bench-quantized``.

On the results of ``make run``, one thread; needs ``pip install -e '.[bench]'``. For each way to score: test rows per
second of CPU time, AUC, the largest difference of a probability from the compiled scorer's, how far the top-10 lists
of some users agree with its, and the size of the file (the bundle has the encoders too).
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import pandas as pd
from onnxruntime import quantization
from scipy.special import expit
from threadpoolctl import threadpool_limits

from benchmarks.common import published_dataset, read_table, say
from benchmarks.onnx_autoint import CODES, NUMBERS, to_onnx
from ml.evaluation.classification import auc
from ml.features.tables import latest_month
from ml.inference.engine.autoint_forward import AutoIntForward
from ml.inference.engine.top_k import TopLists, cut
from ml.inference.scorer import Scorer
from ml.models.autoint import inner_network, like_network
from ml.models.bundle import ModelBundle
from ml.published.champions import published_versions

_BATCH = 512  # rows of a runtime's call; within a sixth of the fastest of 128 to 2048
_USERS = 50  # whose lists are compared
_CALIBRATION = 4096  # training rows
_SHARES = 10  # of the test rows; the median of their times counts
_Logits = Callable[[np.ndarray], np.ndarray]  # of indices int32 [rows, features], float32 [rows]


@dataclass(frozen=True)
class Way:
    """A way to compute a network's logits, and the file that it reads."""

    name: str
    logits: _Logits
    file: Path


class _Calibration(quantization.CalibrationDataReader):
    """Training rows, from whose activations the scales of static quantization are computed."""

    def __init__(self, indices: np.ndarray) -> None:
        self._batches = iter(np.array_split(indices, 8))

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next batch; None at the end."""
        batch = next(self._batches, None)
        return None if batch is None else {CODES: batch}


def _in_batches(run: _Logits) -> _Logits:
    def logits(indices: np.ndarray) -> np.ndarray:
        return np.concatenate([run(indices[start : start + _BATCH]) for start in range(0, len(indices), _BATCH)])

    return logits


def _onnx_runtime(file: Path) -> _Logits:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return _in_batches(lambda indices: session.run(None, {CODES: indices})[0])


def _openvino(file: Path, precision: str) -> _Logits:
    settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1}
    request = openvino.Core().compile_model(str(file), "CPU", settings).create_infer_request()
    return _in_batches(lambda indices: request.infer([indices])[0].copy())


def ways(bundle: ModelBundle, file: Path, train: np.ndarray, folder: Path) -> Iterator[Way]:
    """Yield all ways.

    Args:
        bundle: the model.
        file: with the bundle.
        train: indices of training rows, int32 [rows, features].
        folder: where to write ONNX files.
    """
    network = like_network(bundle.network)
    yield Way("compiled, float32", AutoIntForward(network, threads=1).logits, file)
    plain, dynamic, static = (folder / f"{name}.onnx" for name in ("float32", "dynamic", "static"))
    plain.write_bytes(to_onnx(network))
    options = {"nodes_to_exclude": [NUMBERS], "per_channel": True}  # in int8, collaborative features lose their meaning
    quantization.quantize_dynamic(plain, dynamic, weight_type=quantization.QuantType.QInt8, **options)
    quantization.quantize_static(plain, static, _Calibration(train), op_types_to_quantize=["MatMul"], **options)
    yield Way("ONNX Runtime, float32", _onnx_runtime(plain), plain)
    yield Way("ONNX Runtime, int8, dynamic", _onnx_runtime(dynamic), dynamic)
    yield Way("ONNX Runtime, int8, static", _onnx_runtime(static), static)
    yield Way("OpenVINO, float32", _openvino(plain, "f32"), plain)
    yield Way("OpenVINO, bfloat16", _openvino(plain, "bf16"), plain)
    if inner_network(network) is network:  # OpenVINO 2026.4 fails on int8 products of joined tokens
        yield Way("OpenVINO, int8, static", _openvino(static, "f32"), static)


def compare(bundle: ModelBundle, file: Path, dataset: str) -> list[dict[str, Any]]:
    """Return a row for each way, of the model in a file."""
    names = list(bundle.feature_map.names)
    test = read_table(dataset, "test_interactions")
    indices, labels = test[names].to_numpy(np.int32), test["label"]
    train = read_table(dataset, "train_interactions").sample(_CALIBRATION, random_state=0)[names].to_numpy(np.int32)
    lists = _Lists(bundle, dataset)
    rows: list[dict[str, Any]] = []
    exact: tuple[np.ndarray, TopLists] | None = None  # probabilities and lists of the first way
    with tempfile.TemporaryDirectory() as folder:
        for way in ways(bundle, file, train, Path(folder)):
            rate, logits = _timed(way.logits, indices)
            outcome = expit(logits), lists.of(way.logits)
            exact = exact or outcome
            row = {
                "way": way.name,
                "thousand rows per CPU s": rate / 1000,
                "AUC": auc(labels.to_numpy(), outcome[0]),
                "largest gap": np.abs(outcome[0] - exact[0]).max(),
                **_agreement(outcome[1], exact[1]),
                "file, MB": way.file.stat().st_size / 1e6,
            }
            rows.append(row)
    return rows


def _timed(logits: _Logits, indices: np.ndarray) -> tuple[float, np.ndarray]:
    """Return rows per CPU second, and the logits."""
    logits(indices[:_BATCH])
    rates, found = [], []
    for share in np.array_split(indices, _SHARES):
        start = time.process_time()
        found.append(logits(share))
        rates.append(len(share) / (time.process_time() - start))
    return float(np.median(rates)), np.concatenate(found)


def _agreement(found: TopLists, exact: TopLists) -> dict[str, float]:
    """Return the share of slots with the same movie or score, and the share of listed movies in common."""
    slots = (found.movies == exact.movies) | (np.abs(found.scores - exact.scores) <= 1e-6)
    common = [np.isin(ours, theirs).mean() for ours, theirs in zip(found.movies, exact.movies, strict=True)]
    return {"same slots": float(slots.mean()), "same movies": float(np.mean(common))}


class _Lists:
    """Computes the top-10 lists of some users in the last month by brute force."""

    def __init__(self, bundle: ModelBundle, dataset: str) -> None:
        ratings = read_table(dataset, "ratings")
        scorer = Scorer(bundle)
        year, month = latest_month(ratings)
        context = scorer.context_indices(pd.Series([year]), pd.Series([month]))
        self._users = np.random.default_rng(1).choice(len(scorer.user_ids), _USERS, replace=False)
        movies = np.arange(len(scorer.movie_ids))
        users = np.repeat(self._users, len(movies))
        self._pairs = scorer.pair_indices(users, np.tile(movies, len(self._users)), context)
        self._seen = scorer.known_pairs(ratings, bool)[self._users].toarray()

    def of(self, logits: _Logits) -> TopLists:
        """Return the lists by these logits."""
        grid = logits(self._pairs).reshape(self._seen.shape)
        return cut(np.where(self._seen, np.float32(-np.inf), grid), 10)


def main() -> int:
    """Compare on one data set (default: the first published one) and return the exit status."""
    home, dataset = published_dataset(sys.argv[1:])
    with threadpool_limits(1):
        for name, version in published_versions(home, dataset).items():
            bundle = ModelBundle.load(version.bundle)
            say(name, compare(bundle, Path(str(version.bundle)), dataset), digits=5)
    return 0


if __name__ == "__main__":
    sys.exit(main())
