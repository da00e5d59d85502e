"""Score with SavedModels in a new process that has TensorFlow and NumPy, and cannot import this project."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

_PROGRAM = """
import json, sys
sys.modules.update(ml=None, orchestration=None, app=None)  # an import of these fails
import numpy as np
import tensorflow as tf

answers = []
for folder, columns in json.load(sys.stdin):
    score = tf.saved_model.load(folder).signatures["serving_default"]
    kinds = score.structured_input_signature[1]
    try:
        found = score(**{name: tf.constant(values, kinds[name].dtype) for name, values in columns.items()})
        [(name, scores)] = found.items()
        answers.append([name, scores.dtype.name, np.asarray(scores).tolist()])
    except tf.errors.InvalidArgumentError as error:
        answers.append(["error", error.message])
json.dump(answers, sys.stdout)
"""


def answers(requests: Sequence[tuple[Path, Mapping[str, Sequence[Any]]]]) -> list[list[Any]]:
    """Return for each SavedModel and its inputs the output's name, type and values, or "error" and its message."""
    own = [[str(folder), {name: [*values] for name, values in columns.items()}] for folder, columns in requests]
    done = subprocess.run(
        [sys.executable, "-I", "-c", _PROGRAM],
        input=json.dumps(own),
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found: list[list[Any]] = json.loads(done.stdout)
    return found


def scores(requests: Sequence[tuple[Path, pd.DataFrame]]) -> list[list[float]]:
    """Return for each SavedModel and its rows of raw values their probabilities."""
    found = answers([(folder, rows.to_dict("list")) for folder, rows in requests])
    assert [answer[:2] for answer in found] == [["probability", "float32"]] * len(requests)
    return [answer[2] for answer in found]
