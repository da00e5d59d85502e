"""AutoInt as it is usually written in PyTorch, as a peer of ``benchmarks.training``, which runs this as a command.

Its arguments are the network's and the training's settings as JSON; it reads rows and labels from the standard input, a
NumPy archive, and prints the rows per CPU second of each variant as JSON.
"""

import io
import json
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.common import rates
from ml.models.config import AutoIntConfig


class Interacting(nn.Module):
    """An interacting layer (see ``ml.models.layers``) with a residual."""

    def __init__(self, inputs: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.projections = nn.ModuleList(nn.Linear(inputs, heads * head_dim, bias=False) for _ in range(4))
        for projection in self.projections:
            nn.init.trunc_normal_(projection.weight, std=0.05)

    def forward(self, tokens: Any) -> Any:
        """Tokens [batch, fields, inputs] to [batch, fields, heads * head_dim]."""
        query, key, value, residual = (projection(tokens) for projection in self.projections)
        query, key, value = (each.unflatten(2, (self.heads, -1)).transpose(1, 2) for each in (query, key, value))
        weights = torch.softmax(query @ key.transpose(2, 3), dim=-1)  # [batch, heads, fields, fields]
        return torch.relu((weights @ value).transpose(1, 2).flatten(2) + residual)


def epoch_of(
    rows: np.ndarray,
    labels: np.ndarray,
    config: AutoIntConfig,
    batch_size: int,
    learning_rate: float,
    compiled: bool = False,
) -> Callable[[], None]:
    """Return a function that trains a network for one epoch, with Adam, on one thread.

    Args:
        rows: of the embedding table, int [rows, fields].
        labels: float32 [rows].
        config: sizes of the network.
        batch_size: rows per step.
        learning_rate: Adam's.
        compiled: whether the network's passes are compiled by ``torch.compile``.
    """
    torch.set_num_threads(1)
    width = config.num_heads * config.head_dim
    inputs = [config.embed_dim, *[width] * (config.num_layers - 1)]
    network = nn.Sequential(
        nn.Embedding(int(rows.max()) + 1, config.embed_dim),
        *(Interacting(size, config.num_heads, config.head_dim) for size in inputs),
        nn.Flatten(),
        nn.Linear(rows.shape[1] * width, 1, bias=False),
    )
    run: Callable[[Any], Any] = torch.compile(network) if compiled else network
    optimizer = torch.optim.Adam(network.parameters(), learning_rate)
    loss_of = nn.BCEWithLogitsLoss()
    indices, targets = torch.from_numpy(rows.astype(np.int64)), torch.from_numpy(labels)

    def epoch() -> None:
        for batch in torch.randperm(len(indices)).split(batch_size):
            optimizer.zero_grad()
            loss_of(run(indices[batch])[:, 0], targets[batch]).backward()
            optimizer.step()

    return epoch


def main(model: str, training: str) -> int:
    """Measure each variant and return the exit status."""
    arrays = np.load(io.BytesIO(sys.stdin.buffer.read()), allow_pickle=False)
    rows, config = arrays["rows"], AutoIntConfig.model_validate_json(model)
    variants = {"pytorch_eager": False, "pytorch_compiled": True}
    epochs = [
        epoch_of(rows, arrays["labels"], config, **json.loads(training), compiled=compiled)
        for compiled in variants.values()
    ]
    found = dict(zip(variants, rates(epochs, len(rows)), strict=True))
    sys.stdout.write(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
