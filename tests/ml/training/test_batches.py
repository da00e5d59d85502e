from collections.abc import Callable
from itertools import chain
from typing import Any

import keras
import numpy as np
import pytest

from ml.training import batches
from ml.training.batches import EpochOrder, training_batches, validation_batches

ROWS, BATCH_SIZE = 11, 4
INPUT, LABELS = np.arange(ROWS, dtype=np.float32)[:, None], np.arange(ROWS, dtype=np.float32)
Fit = Callable[..., list[list[float]]]


@pytest.fixture
def seen() -> Fit:
    """Return a function that calls ``fit`` and returns each batch that the network got, training and validation."""

    def fit(inputs: int = 1, **arguments: Any) -> list[list[float]]:
        got: list[list[float]] = []

        class Recording(keras.layers.Layer):
            def call(self, values: Any) -> Any:
                if getattr(values, "numpy", None) and values.shape[0]:
                    got.append(np.asarray(values)[:, 0].tolist())
                return values

        given = [keras.Input((1,)) for _ in range(inputs)]
        outputs = keras.layers.Dense(1)(Recording()(given[0]))
        if inputs > 1:
            outputs = keras.layers.Add()([outputs, *given[1:]])
        network = keras.Model(given[0] if inputs == 1 else given, outputs)
        keras.utils.set_random_seed(5)
        network.compile(loss="mse", run_eagerly=True)
        network.optimizer.build(network.trainable_variables)
        got.clear()
        network.fit(verbose=0, **arguments)
        # Keras may look at a batch before the first epoch.
        return got[len(got) % (arguments["epochs"] - arguments.get("initial_epoch", 0)) :]

    return fit


def flat(lists: list[list[float]]) -> list[float]:
    return list(chain.from_iterable(lists))


def test_order_without_an_own_one_is_that_of_keras(seen: Fit) -> None:
    expected = seen(x=INPUT, y=LABELS, batch_size=BATCH_SIZE, epochs=3)
    found = seen(**training_batches([INPUT], [LABELS], BATCH_SIZE, None), epochs=3)
    assert found == expected
    assert [len(batch) for batch in found] == [4, 4, 3] * 3
    assert sorted(flat(found[:3])) == LABELS.tolist()


@pytest.mark.parametrize("backend", ["tensorflow", "another"])
def test_each_epoch_has_its_own_order(backend: str, seen: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches.keras.config, "backend", lambda: backend)
    orders = [np.random.default_rng([7, epoch]).permutation(ROWS).tolist() for epoch in range(4)]
    for first in (0, 2):  # an interrupted training goes on with the orders of the later epochs
        order = EpochOrder(ROWS, seed=7)
        arguments = training_batches([INPUT], [LABELS], BATCH_SIZE, order)
        found = seen(**arguments, callbacks=[order], initial_epoch=first, epochs=4)
        assert [flat(found[at : at + 3]) for at in range(0, len(found), 3)] == orders[first:]


@pytest.mark.parametrize("rows", [8, 11, 3])
def test_validation_rows_keep_their_order(rows: int, seen: Fit) -> None:
    arguments = validation_batches([INPUT[:rows]], [LABELS[:rows]], BATCH_SIZE)
    found = seen(x=INPUT[:1] + 100, y=LABELS[:1], **arguments, epochs=1)
    assert flat(found)[-rows:] == LABELS[:rows].tolist()


def test_rows_of_all_inputs_and_their_label_stay_together() -> None:
    arguments = training_batches([INPUT, INPUT * 10], [LABELS], BATCH_SIZE, EpochOrder(ROWS, seed=1))
    count = 0
    for (first, second), labels in arguments["x"]:
        assert first.numpy()[:, 0].tolist() == (second.numpy()[:, 0] / 10).tolist() == labels.numpy().tolist()
        count += len(labels)
    assert count == ROWS


def test_a_progress_bar_knows_how_many_batches_there_are() -> None:
    for rows, expected in ((8, 2), (11, 3), (3, 1)):
        dataset = training_batches([INPUT[:rows]], [LABELS[:rows]], BATCH_SIZE, None)["x"]
        assert int(dataset.cardinality()) == expected
        assert not dataset.options().autotune.enabled
