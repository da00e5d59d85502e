"""Train a small network as one of several workers, or alone, and save its weights: a program of the tests."""

import sys

from ml.training.parallel import Workers

workers = Workers.join() if sys.argv[2] == "together" else None  # before anything else of TensorFlow

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

from ml.models.autoint import Inputs, build_model  # noqa: E402
from ml.models.config import ARCHITECTURES  # noqa: E402
from ml.training.config import TrainingConfig  # noqa: E402
from ml.training.objective import likes_and_ratings  # noqa: E402
from ml.training.trainer import train  # noqa: E402

architecture, _, path, rows = sys.argv[1:]
DIMS = (40, 30, 5)
rng = np.random.default_rng(3)
table = pd.DataFrame({f"field{number}": rng.integers(0, dim, int(rows)) for number, dim in enumerate(DIMS)})
table = table.assign(label=(table.sum(axis=1) % 3 == 0).astype("int8"), rating=table["field2"] + 1)
settings = {"embed_dim": 4, "num_layers": 2, "head_dim": 2}
multitask = architecture == "autoint_multitask"
config = ARCHITECTURES[architecture](**settings, **({"pairwise_weight": 0.5} if multitask else {}))
network = build_model(architecture, Inputs(DIMS), config, seed=1)
training = TrainingConfig(epochs=2, batch_size=96, learning_rate=0.01, reshuffle=architecture != "autoint")
objective = likes_and_ratings(table, config, 1.5, 3) if multitask else None
reports = train(network, table, training, objective=objective, workers=workers)
losses = [[report.train_loss, report.val_loss] for report in reports]
np.savez(path, losses=losses, **{f"weights{at}": each for at, each in enumerate(network.get_weights())})
