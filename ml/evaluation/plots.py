"""Pictures of what training and evaluation found."""

import io
from collections.abc import Sequence

import pandas as pd
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


def reliability_plot(title: str, table: pd.DataFrame) -> Figure:
    """Share of positives by mean probability, beside the diagonal of perfect calibration; below it the bins' rows.

    Args:
        title: of the figure.
        table: what ``calibration.reliability`` returns.
    """
    figure = Figure(figsize=(6, 6), layout="constrained")
    shares, rows = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    shares.plot([0, 1], [0, 1], color="grey", linestyle="--", label="perfect calibration")
    shares.plot(table["mean_probability"], table["share_positive"], marker="o", label="test rows")
    shares.set(title=title, ylabel="share of positives", xlim=(0, 1), ylim=(0, 1))
    shares.grid(alpha=0.3)
    shares.legend()
    rows.bar(table["low"], table["rows"], width=table["high"] - table["low"], align="edge", edgecolor="white")
    rows.set(xlabel="predicted probability", ylabel="rows")
    return figure


def png(figure: Figure, dpi: int = 80) -> bytes:
    """The figure as a PNG; the default resolution keeps it below 60 kB."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return buffer.getvalue()
