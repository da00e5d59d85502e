from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from ml.errors import DataError
from ml.features.collaborative_tables import CollaborativeTables
from ml.inference.scorer import Scorer
from ml.inference.tensorflow_export import export_bundle
from ml.models.autoint import Inputs, Multivalued, build_model, with_collaborative
from ml.models.bundle import ModelBundle
from ml.models.config import AutoIntConfig, AutoIntMLPConfig, AutoIntMultitaskConfig
from ml.training.data import PAIR
from tests import plain_tensorflow
from tests.ml.models.reference import randomize
from tests.string_ids import with_string_vocabulary, with_strings

ROW = {"user_id": [1], "movie_id": [1], "year": [2001], "month": [5]}
SMALL = {"embed_dim": 4, "num_layers": 1, "num_heads": 2, "head_dim": 2}


def other(bundle: ModelBundle, kind: str) -> ModelBundle:
    """The same encoders with another network with random weights."""
    dims = bundle.feature_map.field_dims
    genres = Multivalued("genres", PAIR[1], np.random.default_rng(3).random((dims[PAIR[1]], 5), np.float32))
    network = {
        "deep": lambda: build_model(
            "autoint_mlp", Inputs(dims), AutoIntMLPConfig(**SMALL, hidden_units=(4,), batch_normalization=True), 1
        ),
        "multi-task": lambda: build_model("autoint_multitask", Inputs(dims), AutoIntMultitaskConfig(**SMALL), 1),
        "multivalued": lambda: build_model(
            "autoint", Inputs(dims, [3, 5, 10], multivalued=(genres,)), AutoIntConfig(**SMALL, layer_norm=True), 1
        ),
        "collaborative": lambda: build_model(
            "autoint", Inputs(dims, [2, 6], centres=[0.5], scales=[2.0]), AutoIntConfig(**SMALL), 1
        ),
    }[kind]()
    randomize(network, scale=0.5)
    if kind == "collaborative":
        sides = [np.random.default_rng(4).random((dims[position], 2), np.float32) for position in PAIR]
        network = with_collaborative(network, CollaborativeTables(("like",), (2,), *sides), PAIR)
    return ModelBundle.of(network, bundle.feature_map, bundle.users, bundle.movies)


KINDS: dict[str, Callable[[ModelBundle], ModelBundle]] = {
    "autoint": lambda bundle: bundle,
    "deep": lambda bundle: other(bundle, "deep"),
    "multi-task": lambda bundle: other(bundle, "multi-task"),
    "multivalued": lambda bundle: other(bundle, "multivalued"),
    "collaborative": lambda bundle: other(bundle, "collaborative"),
    "strings": with_string_vocabulary,
    "strings and integers": lambda bundle: with_string_vocabulary(bundle, ["user_id"]),
}


def pairs(bundle: ModelBundle) -> pd.DataFrame:
    generator = np.random.default_rng(5)
    return pd.DataFrame(
        {
            "user_id": generator.choice(bundle.users["user_id"].tolist(), 200),
            "movie_id": generator.choice(bundle.movies["movie_id"].tolist(), 200),
            "year": generator.integers(2000, 2004, 200),
            "month": generator.integers(1, 13, 200),
        }
    )


def test_tensorflow_alone_gives_the_scorer_s_probabilities(bundle: ModelBundle, tmp_path: Path) -> None:
    requests, expected = [], []
    for version, make in enumerate(KINDS.values(), start=1):
        made, folder = make(bundle), tmp_path / "models" / str(version)
        export_bundle(made, folder)
        requests.append((folder, pairs(made)))
        expected.append(Scorer(made).score_pairs(pairs(made)))
    # A string has the features of its integer.
    requests.append((requests[list(KINDS).index("strings")][0], with_strings(pairs(bundle))))
    expected.append(expected[list(KINDS).index("autoint")])
    assert min(np.ptp(each) for each in expected) > 0.05
    np.testing.assert_allclose(plain_tensorflow.scores(requests), expected, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def exported(bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "7"
    export_bundle(bundle, folder)
    return folder


@pytest.fixture(scope="module")
def exported_strings(bundle: ModelBundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("strings") / "7"
    export_bundle(with_string_vocabulary(bundle), folder)
    return folder


def refusal(folder: Path, **changes: Sequence[Any]) -> str:
    """The error of a request."""
    score = tf.saved_model.load(folder).signatures["serving_default"]
    kinds = score.structured_input_signature[1]
    columns = {name: tf.constant(values, kinds[name].dtype) for name, values in {**ROW, **changes}.items()}
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        score(**columns)
    return str(caught.value)


THREE = {"user_id": [1, 2, 3], "movie_id": [1, 1, 1], "year": [2001, 2001, 2001], "month": [5, 6, 7]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"user_id": [1, 9999, -4]}, "[unknown user_id; the model knows 300 from 1 to 300, not] [9999 -4]"),
        ({"movie_id": [0, 1, 2]}, "[unknown movie_id; the model knows 200 from 1 to 228, not] [0]"),
        ({"year": [2003, 2001, 1999]}, "[unknown year; the model knows 4 from 2000 to 2003, not] [1999]"),
        ({"month": [13, 0, 1]}, "[unknown month; the model knows 12 from 1 to 12, not] [13 0]"),
    ],
)
def test_an_unknown_value_is_named(exported: Path, changes: dict[str, list[int]], message: str) -> None:
    assert message in refusal(exported, **{**THREE, **changes})


def test_an_unknown_string_is_named(exported_strings: Path) -> None:
    known = with_strings(pd.DataFrame({"user_id": [1], "movie_id": [1]}))
    message = refusal(exported_strings, user_id=known["user_id"], movie_id=["m/1"])
    assert "[unknown movie_id; the model knows 200 from m/1 <x> to m/228 <x>, not] [m/1]" in message


def test_inputs_of_different_lengths_are_refused(exported: Path) -> None:
    message = refusal(exported, movie_id=[1, 2, 3])
    assert "[user_id, movie_id, year, month have these lengths; expected the same for all:] [1 3 1 1]" in message


def test_no_rows(exported: Path) -> None:
    score = tf.saved_model.load(exported).signatures["serving_default"]
    found = score(**{name: tf.constant([], tf.int64) for name in ROW})
    assert found["probability"].shape == (0,)


def test_a_session_gives_the_same(bundle: ModelBundle, exported: Path) -> None:
    """TensorFlow Serving loads graphs into sessions, which run an operation that fills the tables of values."""
    rows = pairs(bundle)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        found = tf.compat.v1.saved_model.load(session, ["serve"], str(exported))
        signature = found.signature_def["serving_default"]
        feed = {signature.inputs[name].name: rows[name] for name in ROW}
        scores = session.run(signature.outputs["probability"].name, feed)
    np.testing.assert_allclose(scores, Scorer(bundle).score_pairs(rows), rtol=0, atol=1e-6)


def test_nothing_half_written(bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save = tf.saved_model.save

    def full(module: Any, path: str, **options: Any) -> None:
        assert Path(path).name.startswith(".3.")  # TensorFlow Serving looks at numbers only
        save(module, path, **options)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(tf.saved_model, "save", full)
        with pytest.raises(OSError, match="No space left"):
            export_bundle(bundle, tmp_path / "3")
    assert [*tmp_path.iterdir()] == []
    export_bundle(bundle, tmp_path / "3")
    assert [path.name for path in tmp_path.iterdir()] == ["3"]
    with pytest.raises(DataError, match=r"3 exists already; delete it first, or choose another directory$"):
        export_bundle(bundle, tmp_path / "3")


def test_a_model_with_numeric_features_is_refused(bundle: ModelBundle, tmp_path: Path) -> None:
    inputs = Inputs(bundle.feature_map.field_dims, centres=[0.0], scales=[1.0])
    network = build_model("autoint", inputs, AutoIntConfig(**SMALL), seed=1)
    timed = ModelBundle.of(network, bundle.feature_map, bundle.users, bundle.movies, ("timestamp",))
    with pytest.raises(DataError, match=r"takes timestamp; expected one that scores ids, year and month$"):
        export_bundle(timed, tmp_path / "1")


def test_other_backends_are_refused(bundle: ModelBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(DataError, match="Keras runs on jax; expected KERAS_BACKEND=tensorflow"):
        export_bundle(bundle, tmp_path / "1")
