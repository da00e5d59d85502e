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


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, groups in (("LARGEST_SHUFFLE", 100), ("_PIECE", 7), ("_WINDOW", 30)):
        monkeypatch.setattr(batches, name, groups)


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("group", [1, 2])
def test_many_rows_are_shuffled_in_two_levels(group: int) -> None:
    order = EpochOrder(302, seed=7, group=group, batch_size=4)
    assert (order.window_rows, order.windows) == ((28, 11) if group == 1 else (60, 6))
    epochs = []
    for epoch in (0, 1):
        order.on_epoch_begin(epoch)
        windows = [order.window(number).tolist() for number in range(order.windows)]
        assert [len(window) for window in windows[:-1]] == [order.window_rows] * (order.windows - 1)
        assert sorted(flat(windows)) == list(range(302))
        starts = np.array(flat(windows)).reshape(-1, group)
        np.testing.assert_array_equal(starts, starts[:, :1] + np.arange(group))
        for window in windows:  # a window of 30 groups has parts of at most 6 pieces of 7
            assert len({row // group // 7 for row in window}) <= 6
        assert flat(windows) != flat([sorted(window) for window in windows])
        assert {row // group // 7 for row in windows[0]} != set(range(5))
        epochs.append(flat(windows))
    assert epochs[0] != epochs[1]
    order.on_epoch_begin(0)
    assert [order.window(number).tolist() for number in range(order.windows)] == windows_of(epochs[0], order)


def windows_of(rows: list[float], order: EpochOrder) -> list[list[float]]:
    """Cut an epoch into its windows."""
    return [rows[start : start + order.window_rows] for start in range(0, len(rows), order.window_rows)]


@pytest.mark.usefixtures("small_windows")
@pytest.mark.parametrize("backend", ["tensorflow", "another"])
def test_windows_make_whole_batches(backend: str, seen: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches.keras.config, "backend", lambda: backend)
    labels = np.arange(302, dtype=np.float32)
    order = EpochOrder(302, seed=7, batch_size=BATCH_SIZE)
    found = seen(**training_batches([labels[:, None]], [labels], BATCH_SIZE, order), callbacks=[order], epochs=2)
    assert [len(batch) for batch in found] == [*[4] * 75, 2] * 2
    for epoch in (0, 1):
        order.on_epoch_begin(epoch)
        expected = np.concatenate([order.window(number) for number in range(order.windows)])
        assert flat(found[76 * epoch : 76 * (epoch + 1)]) == expected.tolist()


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
