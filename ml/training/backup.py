"""Keep a training's state after every epoch, so that an interrupted one goes on where it was."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from zipfile import BadZipFile

import keras
import numpy as np
import pandas as pd
from pydantic import BaseModel

import ml
from ml.training.reports import EpochReport

_log = logging.getLogger(__name__)

_FILE = "state.npz"
_BEST = "best_"  # starts the names of the best epoch's weights


class Backup:
    """The state of one training after its last finished epoch.

    Keras's ``BackupAndRestore`` leaves out the state of the dropout's random numbers, so that a resumed training ends
    with other weights, and writes weights and epoch one after the other. This is one file, replaced as a whole.

    Args:
        folder: made when the first epoch is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def of(
        cls,
        folder: Path,
        model: keras.Model,
        train_interactions: pd.DataFrame,
        config: BaseModel,
        numbers: np.ndarray | None = None,
    ) -> "Backup":
        """The backup, below ``folder``, of exactly this training; those of others there are removed.

        Args:
            folder: of all trainings of a model.
            model: not yet trained.
            train_interactions: its rows.
            config: its settings.
            numbers: float32 [rows, numbers], where the model takes them.
        """
        name = fingerprint(model, train_interactions, config, numbers)
        for other in folder.glob("*/"):
            if other.name != name:
                shutil.rmtree(other)
        return cls(folder / name)

    def restore(self, model: keras.Model) -> list[EpochReport]:
        """Put the kept state into a compiled model; gives the epochs that are done, none where nothing is kept.

        A file that is damaged or not of this model is removed, and the log says so: training begins again, which costs
        time and changes no result.
        """
        path = self._folder / _FILE
        if not path.exists():
            return []
        model.optimizer.build(model.trainable_variables)
        variables = _state(model)
        try:
            values, reports = _read(path, variables, model.weights)
        except (OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, RecursionError, BadZipFile) as error:
            _log.warning("%s: no state of this training (%s); it is removed, and training begins again", path, error)
            self.remove()
            return []
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        return reports

    def best_weights(self) -> list[np.ndarray]:
        """The best epoch's weights that were kept beside the state; none where nothing or no such weights are kept."""
        path = self._folder / _FILE
        if not path.exists():
            return []
        with np.load(path, allow_pickle=False) as kept:
            return [kept[name] for name in kept.files if name.startswith(_BEST)]

    def keep(self, model: keras.Model, reports: list[EpochReport], best_weights: Sequence[np.ndarray] = ()) -> None:
        """Keep a compiled model's state, what its epochs reported, and perhaps the weights of the best of them."""
        self._folder.mkdir(parents=True, exist_ok=True)
        arrays = {str(index): keras.ops.convert_to_numpy(value) for index, value in enumerate(_state(model))}
        arrays |= {f"{_BEST}{index}": weight for index, weight in enumerate(best_weights)}
        text = json.dumps([asdict(report) for report in reports]).encode()
        temporary = self._folder / f".{os.getpid()}.npz"
        np.savez(temporary, reports=np.frombuffer(text, np.uint8), **arrays)
        temporary.replace(self._folder / _FILE)

    def remove(self) -> None:
        """Forget the state."""
        shutil.rmtree(self._folder, ignore_errors=True)


def fingerprint(
    model: keras.Model, train_interactions: pd.DataFrame, config: BaseModel, numbers: np.ndarray | None = None
) -> str:
    """Changes with all that decides how a training goes.

    That is rows, numbers, network, the weights that it starts from, settings, ``ml``'s code, the backend, Keras's and
    NumPy's versions.
    """
    digest = hashlib.sha256()
    digest.update(pd.util.hash_pandas_object(train_interactions, index=False).to_numpy().tobytes())
    digest.update(b"" if numbers is None else np.ascontiguousarray(numbers).tobytes())
    digest.update(model.to_json().encode() + config.model_dump_json().encode())
    for weight in model.weights:
        digest.update(keras.ops.convert_to_numpy(weight).tobytes())
    digest.update(f"{keras.config.backend()} {version('keras')} {version('numpy')}".encode())
    root = Path(ml.__path__[0])
    for source in sorted(root.rglob("*.py")):
        digest.update(source.relative_to(root).as_posix().encode() + source.read_bytes())
    return digest.hexdigest()[:16]


def _read(
    path: Path, variables: Sequence[keras.Variable], weights: Sequence[keras.Variable]
) -> tuple[list[np.ndarray], list[EpochReport]]:
    """A kept state's values and reports; raises where they, or the best epoch's weights, are not of this model."""
    with np.load(path, allow_pickle=False) as kept:
        best = [f"{_BEST}{index}" for index in range(len(weights))]
        best = best if any(name.startswith(_BEST) for name in kept.files) else []
        names = [str(index) for index in range(len(variables))]
        if {*kept.files} != {*names, *best, "reports"}:
            raise ValueError(f"expected {len(variables)} variables and none or {len(weights)} weights")
        for name, variable in zip(names + best, [*variables, *weights][: len(names + best)], strict=True):
            if kept[name].shape != tuple(variable.shape) or kept[name].dtype.kind not in "fiub":
                raise ValueError(f"{name} is {kept[name].dtype} of shape {kept[name].shape}; expected {variable.shape}")
        reports = [EpochReport(**report) for report in json.loads(bytes(kept["reports"]))]
        if [report.epoch for report in reports] != [*range(1, len(reports) + 1)]:
            raise ValueError("expected a report for each epoch")
        return [kept[name] for name in names], reports


def _state(model: keras.Model) -> list[keras.Variable]:
    """Everything that training changes: weights, random number states, the optimizer's moments."""
    variables = [*model.variables, *model.optimizer.variables]
    return list({id(variable): variable for variable in variables}.values())
