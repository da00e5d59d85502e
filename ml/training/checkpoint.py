"""Save a training's state after every epoch, so that an interrupted training resumes."""

import io
import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np

from ml.files import write_atomically
from ml.training.reports import EpochReport

_log = logging.getLogger(__name__)

_FILE = "state.npz"
_BEST = "best_"  # prefix of the arrays that hold the best epoch's weights


class Checkpoint:
    """The state of one training after its last finished epoch.

    Keras's ``BackupAndRestore`` does not save the state of dropout's random numbers, so that a resumed training ends
    with different weights, and it writes weights and epoch one after the other. This is one file, replaced as a whole.

    Args:
        folder: created when the first epoch is saved.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def only(cls, folder: Path, fingerprint: str) -> "Checkpoint":
        """Return the checkpoint of the training with this fingerprint; remove all others in ``folder``."""
        for other in folder.glob("*/"):
            if other.name != fingerprint:
                shutil.rmtree(other)
        return cls(folder / fingerprint)

    @property
    def folder(self) -> Path:
        """Where the state is saved; ``only`` names it after the training's fingerprint."""
        return self._folder

    def reports(self) -> list[EpochReport]:
        """Return the reports of the epochs that are saved; none without a file, or with a damaged one."""
        try:
            with np.load(self._folder / _FILE, allow_pickle=False) as saved:
                return _reports(saved["reports"])
        except Exception:
            return []

    def restore(self, model: keras.Model) -> tuple[list[EpochReport], list[np.ndarray]]:
        """Load the saved state into a model whose optimizer is built.

        A file that is damaged or belongs to another model is removed with a warning: the training starts over, which
        costs time and changes no result.

        Returns:
            Reports of the finished epochs, and the weights of the best one if they were saved; both empty without a
            saved state.
        """
        path = self._folder / _FILE
        if not path.exists():
            return [], []
        variables = _state(model)
        try:
            reports, values, best_weights = _read(path, variables, model.weights)
        except Exception as error:  # whatever NumPy, zipfile and its decompressors raise for damaged bytes
            _log.warning("%s: not a checkpoint of this training (%s); removed, training starts over", path, error)
            self.remove()
            return [], []
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return reports, best_weights

    def save(self, model: keras.Model, reports: Sequence[EpochReport], best_weights: Sequence[np.ndarray] = ()) -> None:
        """Save a compiled model's state, the reports of its epochs, and the best epoch's weights if there are any."""
        arrays = {str(index): keras.ops.convert_to_numpy(value) for index, value in enumerate(_state(model))}
        arrays |= {f"{_BEST}{index}": weight for index, weight in enumerate(best_weights)}
        text = json.dumps([asdict(report) for report in reports]).encode()
        buffer = io.BytesIO()
        np.savez(buffer, reports=np.frombuffer(text, np.uint8), **arrays)
        write_atomically(self._folder / _FILE, buffer.getvalue())

    def remove(self) -> None:
        """Delete the saved state."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _read(
    path: Path, variables: Sequence[keras.Variable], weights: Sequence[keras.Variable]
) -> tuple[list[EpochReport], list[np.ndarray], list[np.ndarray]]:
    """Return reports, values of the variables and best weights; raise if they do not belong to this model."""
    with np.load(path, allow_pickle=False) as saved:
        arrays = dict(saved)
    reports = _reports(arrays.pop("reports"))
    if [report.epoch for report in reports] != [*range(1, len(reports) + 1)]:
        raise ValueError("expected a report for each epoch")
    state = {str(index): variable for index, variable in enumerate(variables)}
    best: Mapping[str, keras.Variable] = {}
    if any(name.startswith(_BEST) for name in arrays):
        best = {f"{_BEST}{index}": weight for index, weight in enumerate(weights)}
    if arrays.keys() != {*state, *best}:
        raise ValueError(f"expected {len(variables)} variables and none or {len(weights)} weights")
    for name, variable in {**state, **best}.items():
        if arrays[name].shape != tuple(variable.shape) or arrays[name].dtype.kind not in "fiub":
            raise ValueError(f"{name} is {arrays[name].dtype} of shape {arrays[name].shape}; expected {variable.shape}")
    return reports, [arrays[name] for name in state], [arrays[name] for name in best]


def _reports(saved: np.ndarray) -> list[EpochReport]:
    return [EpochReport(**report) for report in json.loads(bytes(saved))]


def _state(model: keras.Model) -> list[keras.Variable]:
    """Return everything that training changes: weights, random number states, the optimizer's moments."""
    variables = [*model.variables, *model.optimizer.variables]
    return list({id(variable): variable for variable in variables}.values())
