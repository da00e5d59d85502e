"""Plot the results of training and evaluation."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from ml.evaluation.attention import AttentionMaps  # imports Keras


def loss_curve(title: str, train_losses: Sequence[float], val_losses: Sequence[float]) -> Figure:
    """Plot training and validation loss by epoch, from epoch 1."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    epochs = range(1, len(train_losses) + 1)
    axes.plot(epochs, train_losses, marker="o", label="train_loss")
    axes.plot(epochs, val_losses, marker="o", label="val_loss")
    axes.set(title=title, xlabel="epoch", ylabel="binary cross-entropy", xticks=list(epochs))
    axes.grid(alpha=0.3)
    axes.legend()
    return figure


def attention_plot(title: str, maps: "AttentionMaps") -> Figure:
    """Plot a heat map for each layer, from the top down, and head, from the left: rows attend to columns."""
    layers, heads, features, _ = maps.weights.shape
    lowest, highest = maps.weights.min(), maps.weights.max()
    side = 0.2 * features + 1.2  # inches
    figure = Figure(figsize=(heads * side + 1, layers * side + 0.5), layout="constrained")
    figure.suptitle(title)
    panels = figure.subplots(layers, heads, sharex=True, sharey=True, squeeze=False)
    for (layer, head), axes in np.ndenumerate(panels):
        image = axes.imshow(maps.weights[layer, head], cmap="Blues", vmin=lowest, vmax=highest)
        axes.set(title=f"layer {layer + 1}, head {head + 1}")
        axes.set_xticks(range(features), maps.features, rotation=90)
        axes.set_yticks(range(features), maps.features)
    figure.colorbar(image, ax=panels, label="mean attention weight", shrink=0.5)
    return figure


def comparison_plot(title: str, table: pd.DataFrame) -> Figure:
    """Plot a bar chart per metric, with one bar per model; a model without the metric has no bar.

    Args:
        title: title of the figure.
        table: numbers; one row per model, one column per metric.
    """
    figure = Figure(figsize=(4 * table.shape[1], 0.4 * len(table) + 1.2), layout="constrained")
    figure.suptitle(title)
    for axes, metric in zip(figure.subplots(1, table.shape[1], sharey=True, squeeze=False)[0], table, strict=True):
        values = table[metric].where(np.isfinite(table[metric]))
        bars = axes.barh([str(model) for model in table.index], values.fillna(0))
        axes.bar_label(bars, ["" if pd.isna(value) else f"{value:.4f}" for value in values], padding=3)
        axes.set(xlabel=metric, xlim=(0, 1.2 * values.max() if values.max() > 0 else 1))
    figure.axes[0].invert_yaxis()
    return figure


def reliability_plot(title: str, table: pd.DataFrame) -> Figure:
    """Plot the share of positives over the mean probability, and below it the number of rows per bin.

    Args:
        title: title of the figure.
        table: result of ``calibration.reliability``.
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
