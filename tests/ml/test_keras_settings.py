"""A user's Keras file decides nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

FOREIGN = {"floatx": "float16", "epsilon": 0.1, "backend": "no_such_backend", "image_data_format": "channels_first"}
DEFAULTS = ["float32", 1e-7, "channels_last"]

# Keras's own module that reads the file, without the rest of Keras, which is slow to import.
READ = """
import importlib.util, json, pathlib, sys
from unittest.mock import MagicMock
import ml
sys.modules["keras.src.api_export"] = MagicMock(keras_export=lambda names: lambda function: function)
sys.modules["keras.src.backend.common"] = MagicMock()
place = importlib.util.find_spec("keras").submodule_search_locations[0]
read = {}
exec(pathlib.Path(place, "src/backend/config.py").read_text(), read)
print(json.dumps([read[name]() for name in ("floatx", "epsilon", "image_data_format", "backend")]))
"""
# All of Keras, after the library or before it.
WHOLE = """
import {order}
import json
c, layers = keras.config, (keras.layers.Dense(1), keras.layers.Embedding(2, 2))
print(json.dumps([c.floatx(), c.epsilon(), c.image_data_format(), *(layer.dtype_policy.name for layer in layers)]))
"""


def said(home: Path, script: str, **environment: str) -> list[str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("KERAS_")}
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**others, "HOME": str(home), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found: list[str] = json.loads(run.stdout.splitlines()[-1])
    return found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    file = tmp_path / ".keras" / "keras.json"
    file.parent.mkdir()
    file.write_text(json.dumps(FOREIGN))
    return tmp_path


def test_the_users_keras_file_decides_nothing(home: Path) -> None:
    assert said(home, READ) == [*DEFAULTS, "tensorflow"]
    assert said(home, READ, KERAS_BACKEND="jax", KERAS_HOME=str(home / ".keras")) == [*DEFAULTS, "jax"]


def test_nothing_is_written_to_the_users_home(tmp_path: Path) -> None:
    assert said(tmp_path, READ) == [*DEFAULTS, "tensorflow"]
    assert not [*tmp_path.iterdir()]


@pytest.mark.slow
@pytest.mark.parametrize("order", ["ml.models.layers, keras", "keras, ml"])
def test_networks_are_of_single_precision_whatever_the_file_says(order: str, home: Path) -> None:
    found = said(home, WHOLE.format(order=order), KERAS_BACKEND=keras.config.backend())
    assert found == [*DEFAULTS, "float32", "float32"]
