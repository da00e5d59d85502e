import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from ml.training.checkpoint import Checkpoint
from ml.training.reports import EpochReport

REPORTS = [EpochReport(1, 2, 0.5, 0.5, 1.0, 1.0)]


@pytest.fixture(scope="module")
def model() -> keras.Model:
    """A small compiled network with dropout, whose random numbers are part of its state."""
    layers = [keras.Input((2,)), keras.layers.Dense(3), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    made = keras.Sequential(layers)
    made.compile(optimizer="adam", loss="binary_crossentropy")
    made.optimizer.build(made.trainable_variables)
    return made


@pytest.fixture(scope="module")
def saved(model: keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint; do not modify it."""
    folder = tmp_path_factory.mktemp("saved")
    Checkpoint(folder).save(model, REPORTS, model.get_weights())
    return folder


class Owned:
    """Pickled, makes a directory when it is read."""

    def __init__(self, place: Path) -> None:
        self.place = str(place)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.place,)


def rewritten(file: Path, change: Callable[[dict[str, np.ndarray]], Any]) -> None:
    with np.load(file) as kept:
        arrays = dict(kept)
    change(arrays)
    np.savez(file, allow_pickle=True, **arrays)


def pickled(file: Path) -> np.ndarray:
    return np.array([Owned(file.parent.parent / "owned")], dtype=object)


def marked(file: Path, offset: int, value: bytes) -> None:
    """Overwrite bytes of the first member's entry in the archive's directory."""
    data = bytearray(file.read_bytes())
    entry = data.index(b"PK\x01\x02") + offset
    data[entry : entry + len(value)] = value
    file.write_bytes(bytes(data))


def compressed(file: Path) -> None:
    """Damage the bytes of a compressed member."""
    with np.load(file) as kept:
        arrays = dict(kept)
    np.savez_compressed(file, allow_pickle=False, **arrays)
    data = file.read_bytes()
    start = data.index(b"reports.npy") + len(b"reports.npy") + 20
    file.write_bytes(data[:start] + b"\xff" * 8 + data[start + 8 :])


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda file: file.write_bytes(b""),
    "cut off": lambda file: file.write_bytes(file.read_bytes()[:1000]),
    "text": lambda file: file.write_bytes(b"no archive"),
    "a pickle": lambda file: file.write_bytes(pickle.dumps(pickled(file))),
    "a pickled member": lambda file: rewritten(file, lambda arrays: arrays.update({"1": pickled(file)})),
    "a pickled best weight": lambda file: rewritten(file, lambda arrays: arrays.update(best_0=pickled(file))),
    "another member": lambda file: rewritten(file, lambda arrays: arrays.update(other=np.ones(3))),
    "a member less": lambda file: rewritten(file, lambda arrays: arrays.pop("2")),
    "another shape": lambda file: rewritten(file, lambda arrays: arrays.update({"0": np.ones((2, 2))})),
    "texts": lambda file: rewritten(file, lambda arrays: arrays.update({"0": np.full(arrays["0"].shape, "x")})),
    "no reports": lambda file: rewritten(file, lambda arrays: arrays.update(reports=np.ones(3, np.uint8))),
    "said to be encrypted": lambda file: marked(file, 8, b"\x01"),
    "of an unknown compression": lambda file: marked(file, 10, b"\x63"),
    "damaged in a compressed member": compressed,
    "nested reports": lambda file: rewritten(
        file, lambda arrays: arrays.update(reports=np.frombuffer(b"[" * 100_000, np.uint8))
    ),
    "other reports": lambda file: rewritten(
        file, lambda arrays: arrays.update(reports=np.frombuffer(b'[{"epoch": 1}]', np.uint8))
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_training_starts_over(
    damage: str, model: keras.Model, saved: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(saved, tmp_path / "own")
    file, before = folder / "state.npz", model.get_weights()
    DAMAGES[damage](file)
    assert Checkpoint(folder).restore(model) == ([], [])
    assert f"{file}: not a checkpoint of this training (" in caplog.text
    assert not file.exists()
    assert not (tmp_path / "owned").exists()
    for weight, other in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, other)


def test_only_the_last_training_is_kept(model: keras.Model, tmp_path: Path) -> None:
    Checkpoint.only(tmp_path, "first").save(model, REPORTS)
    assert Checkpoint.only(tmp_path, "first").restore(model) == (REPORTS, [])
    assert Checkpoint.only(tmp_path, "second").restore(model) == ([], [])
    assert not (tmp_path / "first").exists()


def test_a_removed_checkpoint_starts_over(model: keras.Model, saved: Path, tmp_path: Path) -> None:
    checkpoint = Checkpoint(Path(shutil.copytree(saved, tmp_path / "own")))
    checkpoint.remove()
    assert not (tmp_path / "own").exists()
    assert checkpoint.restore(model) == ([], [])
