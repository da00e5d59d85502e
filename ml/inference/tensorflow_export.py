"""Write a model bundle as a TensorFlow SavedModel that takes raw ids, for TensorFlow Serving and for TensorFlow alone.

Its graph holds the vocabularies, the features of users, movies and months, and the network's weights. Loading it
needs no code of this project and no Keras.
"""

import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd

from ml import schema
from ml.errors import DataError
from ml.features.moments import DAY
from ml.files import sync
from ml.inference.days_since_first import DaysSinceFirst
from ml.inference.engine.keras_forward import KerasForward
from ml.inference.scorer import PAIR_COLUMNS, Scorer
from ml.models.autoint import like_network
from ml.models.bundle import ModelBundle

SIGNATURE = "serving_default"  # which TensorFlow Serving uses if a request names none
OUTPUT = "probability"
_TOLD = 3  # unknown values that an error names


def export_bundle(bundle: ModelBundle, folder: Path) -> None:
    """Write a SavedModel; the directory appears under its name when it is complete.

    Its one signature takes tensors of one length n: user_id and movie_id (int64, or strings in UTF-8 where the data
    set's ids are strings), year and month 1-12 (int64). It returns ``probability``, float32 [n]: what
    ``Scorer.score_pairs`` returns. An unknown value is an InvalidArgumentError that names it; then no row is scored.

    Args:
        bundle: the model.
        folder: where to write it; TensorFlow Serving expects a number as its name. Missing parents are created.

    Raises:
        DataError: the directory exists, the model takes numeric features, or Keras does not run on TensorFlow.
        OSError: it cannot be written.
    """
    if keras.config.backend() != "tensorflow":
        raise DataError(f"Keras runs on {keras.config.backend()}; expected KERAS_BACKEND=tensorflow for a SavedModel")
    if bundle.numbers:
        raise DataError(f"this model takes {', '.join(bundle.numbers)}; expected one that scores ids, year and month")
    import tensorflow as tf

    lookups = _lookups(bundle)
    module = tf.Module()
    network = like_network(bundle.network)
    module.weights = [weight.value for weight in network.weights]
    module.lookups = [lookup.table for lookup in lookups]
    score = _score_function(bundle, network, lookups)
    with _new_directory(folder) as temporary:
        tf.saved_model.save(module, str(temporary), signatures={SIGNATURE: score})


@contextmanager
def _new_directory(folder: Path) -> Iterator[Path]:
    """Yield a directory to write to, which gets its name at the end. Raises DataError where the name is taken."""
    if folder.exists():
        raise DataError(f"{folder} exists already; delete it first, or choose another directory")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        yield temporary
        for path in (*temporary.rglob("*"), temporary):
            sync(path)
        temporary.rename(folder)
        sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # nothing is left of it after the renaming


def _lookups(bundle: ModelBundle) -> list["_Lookup"]:
    """Make the tables of the known values of each input, in order."""
    feature_map = bundle.feature_map
    values = feature_map["user_id"].values, feature_map["movie_id"].values, feature_map.years, feature_map.months
    return [_Lookup(name, known) for name, known in zip(PAIR_COLUMNS, values, strict=True)]


class _Lookup:
    """Finds the positions of raw values among those that the model knows, inside a graph.

    Attributes:
        spec: of the tensor of raw values.
        table: from value to position; a SavedModel must track it.
    """

    def __init__(self, name: str, known: Sequence[int] | Sequence[str]) -> None:
        import tensorflow as tf

        kind = tf.string if isinstance(known[0], str) else tf.int64
        self.spec = tf.TensorSpec([None], kind, name)
        positions = tf.lookup.KeyValueTensorInitializer(tf.constant(known, kind), tf.range(len(known)))
        self.table = tf.lookup.StaticHashTable(positions, default_value=-1)
        self._error = f"unknown {name}; the model knows {len(known):,} from {known[0]} to {known[-1]}, not"

    def positions(self, values: Any) -> Any:
        """Positions, int32 [n], of values [n]; evaluating them fails for unknown ones."""
        import tensorflow as tf

        found = self.table.lookup(values)
        unknown = tf.boolean_mask(values, found < 0)
        known = tf.debugging.Assert(tf.size(unknown) == 0, [self._error, unknown], summarize=_TOLD)
        with tf.control_dependencies([known]):
            return tf.identity(found)


def _score_function(bundle: ModelBundle, network: keras.Model, lookups: list[_Lookup]) -> Any:
    """The signature's function: rows of indices are sums of the rows of three tables."""
    import tensorflow as tf

    users, movies, moments = map(tf.constant, _tables(bundle))
    months, days = len(bundle.feature_map.months), _days_function(bundle)

    @tf.function(input_signature=[lookup.spec for lookup in lookups], autograph=False)
    def score(*columns: Any) -> dict[str, Any]:
        sizes = tf.stack([tf.size(column) for column in columns])
        message = f"{', '.join(PAIR_COLUMNS)} have these lengths; expected the same for all:"
        same = tf.debugging.Assert(tf.reduce_all(sizes == sizes[0]), [message, sizes], summarize=len(columns))
        with tf.control_dependencies([same]):
            columns = tuple(map(tf.identity, columns))
        user, movie, year, month = (each.positions(values) for each, values in zip(lookups, columns, strict=True))
        moment = year * months + month
        indices = tf.gather(users, user) + tf.gather(movies, movie) + tf.gather(moments, moment)
        if days:
            indices += days(user, moment)
        return {OUTPUT: network(indices, training=False)[:, 0]}

    return score


def _days_function(bundle: ModelBundle) -> Any:
    """What computes the indices of ``days_since_first``, the one feature of both user and moment; None without it."""
    import tensorflow as tf

    if not (days := DaysSinceFirst.of(bundle)):
        return None
    times, first_times, leasts = (
        tf.constant(each, tf.int64) for each in (days.times.ravel(), days.first_times, days.leasts)
    )
    column = tf.one_hot(days.position, len(bundle.feature_map.fields), dtype=tf.int32)

    def indices(user: Any, moment: Any) -> Any:
        """Indices int32 [n, features], zeros elsewhere, of users' and moments' positions [n]."""
        passed = (tf.gather(times, moment) - tf.gather(first_times, user)) // DAY
        found = tf.maximum(tf.searchsorted(leasts, passed, side="right") - 1, 0)
        return found[:, None] * column

    return indices


def _tables(bundle: ModelBundle) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of users, of movies, and of moments in the order of years and months, int32 [rows, features].

    Each has zeros where the index belongs to another side, or to user and moment.
    """
    scorer, feature_map = Scorer(bundle, KerasForward(like_network(bundle.network))), bundle.feature_map
    years = pd.Series(np.repeat(feature_map.years, len(feature_map.months)))
    months = pd.Series(np.tile(feature_map.months, len(feature_map.years)))
    contexts = scorer.context_indices(years, months)
    users, movies = np.arange(len(scorer.user_ids)), np.arange(len(scorer.movie_ids))
    first = np.zeros(len(years), int)
    of_moment = [
        each for each in feature_map.positions("context") if feature_map.names[each] != schema.DAYS_SINCE_FIRST
    ]
    return (
        _only(feature_map.positions("user"), scorer.pair_indices(users, np.zeros_like(users), contexts[:1])),
        _only(feature_map.positions("movie"), scorer.pair_indices(np.zeros_like(movies), movies, contexts[:1])),
        _only(of_moment, scorer.pair_indices(first, first, contexts)),
    )


def _only(positions: Sequence[int], indices: np.ndarray) -> np.ndarray:
    """The same indices at these positions, zeros elsewhere."""
    kept = np.zeros_like(indices)
    kept[:, positions] = indices[:, positions]
    return kept
