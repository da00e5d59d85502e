"""The same training on Keras's other backends, each in a process of its own."""

import importlib.util
import os
import subprocess
import sys

import pytest

STEPS = """
import numpy as np, pandas as pd
from ml import schema
from ml.models.autoint import Inputs, build_model
from ml.models.config import AutoIntMLPConfig
from ml.training.config import TrainingConfig
from ml.training.trainer import train

rng = np.random.default_rng(0)
rows = pd.DataFrame(rng.integers(0, 5, (2000, len(schema.FIELD_NAMES))), columns=list(schema.FIELD_NAMES))
rows["label"] = (rows["movie_id"] > 2).astype(int)
network = build_model("autoint_mlp", Inputs([5] * len(schema.FIELD_NAMES)), AutoIntMLPConfig(dropout=0.0), seed=1)
reports = train(network, rows, TrainingConfig(epochs=2, batch_size=100, learning_rate=0.01, seed=1))
print(*(report.val_loss for report in reports))
"""


def losses(backend: str) -> list[float]:
    environment = {**os.environ, "KERAS_BACKEND": backend}
    command = [sys.executable, "-c", STEPS]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return [float(loss) for loss in run.stdout.split()]


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_learns_on_another_backend(backend: str) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    first, last = losses(backend)
    assert last < first < 0.75
    assert last < 0.1
