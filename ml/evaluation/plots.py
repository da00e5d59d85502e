"""Pictures of what training and evaluation found."""

import io
from collections.abc import Sequence

from matplotlib.figure import Figure


def loss_curve(title: str, train_losses: Sequence[float], val_losses: Sequence[float]) -> Figure:
    """Training and validation loss by epoch, from epoch 1."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    epochs = range(1, len(train_losses) + 1)
    axes.plot(epochs, train_losses, marker="o", label="train_loss")
    axes.plot(epochs, val_losses, marker="o", label="val_loss")
    axes.set(title=title, xlabel="epoch", ylabel="binary cross-entropy", xticks=list(epochs))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def png(figure: Figure, dpi: int = 80) -> bytes:
    """The figure as a PNG; the default resolution keeps it below 60 kB."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
